import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.Base64;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Sends what Domo's SDK for Java sends (OAuthInterceptor.java), as commands on standard input request: an invalid token
 * first, a POST form with a raw space for a token, and one repetition after a 401, or after a 406 for CSV.
 *
 * <p>Usage: java JavaSdk.java HOST ID SECRET SCOPES. Each command gets one line: "ok", or "failed" and the error.
 */
class JavaSdk {
    private static final int MIB = 1 << 20;
    private static final String DATASET =
            "{\"name\":\"Kept\",\"description\":\"\",\"rows\":0,"
                    + "\"schema\":{\"columns\":[{\"type\":\"STRING\",\"name\":\"Text\"}]}}";

    private final HttpClient http =
            HttpClient.newBuilder()
                    .version(HttpClient.Version.HTTP_1_1)
                    .followRedirects(HttpClient.Redirect.NORMAL)
                    .build();
    private final String url;
    private final String basic;
    private final String scopes;
    private String token = "starterTokenThatIsInvalid";
    private String kept = "";

    private JavaSdk(String host, String id, String secret, String scopes) {
        this.url = "http://" + host;
        this.basic = Base64.getEncoder().encodeToString((id + ":" + secret).getBytes());
        this.scopes = scopes;
    }

    private static String field(String json, String name) {
        Matcher found = Pattern.compile("\"" + name + "\":\"([^\"]*)\"").matcher(json);
        if (!found.find()) {
            throw new IllegalStateException("no " + name + " in " + json);
        }
        return found.group(1);
    }

    private void refresh() throws IOException, InterruptedException {
        HttpRequest request =
                HttpRequest.newBuilder(URI.create(url + "/oauth/token"))
                        .header("Authorization", "Basic " + basic)
                        .header("Content-Type", "application/x-www-form-urlencoded")
                        .POST(
                                BodyPublishers.ofString(
                                        "grant_type=client_credentials&scope=" + scopes))
                        .build();
        HttpResponse<String> response = http.send(request, BodyHandlers.ofString());
        if (response.statusCode() != 200) {
            throw new IOException("token: " + response.statusCode() + " " + response.body());
        }
        token = field(response.body(), "access_token");
    }

    private HttpResponse<String> once(String method, String path, String type, BodyPublisher body)
            throws IOException, InterruptedException {
        HttpRequest.Builder request =
                HttpRequest.newBuilder(URI.create(url + path))
                        .header("Authorization", "bearer " + token)
                        .header("Accept", type)
                        .method(method, body);
        if (!method.equals("GET")) {
            request.header("Content-Type", type);
        }
        return http.send(request.build(), BodyHandlers.ofString());
    }

    private String call(String method, String path, String type, BodyPublisher body)
            throws IOException, InterruptedException {
        HttpResponse<String> response = once(method, path, type, body);
        int status = response.statusCode();
        if (status == 401 || (status == 406 && type.equals("text/csv"))) {
            refresh();
            response = once(method, path, type, body);
        }
        if (response.statusCode() >= 300) {
            throw new IOException(response.statusCode() + " " + response.body());
        }
        return response.body();
    }

    private String get(String path) throws IOException, InterruptedException {
        return call("GET", path, "application/json", BodyPublishers.noBody());
    }

    private void run(String[] words) throws IOException, InterruptedException {
        String data = "/v1/datasets/" + kept + "/data";
        switch (words[0]) {
            case "list":
                get("/v1/datasets?limit=2&offset=0");
                break;
            case "users":
                get("/v1/users?limit=10&offset=0");
                break;
            case "prepare":
                BodyPublisher dataset = BodyPublishers.ofString(DATASET);
                kept = field(call("POST", "/v1/datasets", "application/json", dataset), "id");
                break;
            case "upload":
                String rows = ("x".repeat(MIB - 1) + "\n").repeat(Integer.parseInt(words[1]));
                call("PUT", data, "text/csv", BodyPublishers.ofString(rows));
                break;
            case "download":
                String found = call("GET", data, "text/csv", BodyPublishers.noBody());
                if (found.length() != Integer.parseInt(words[1]) * MIB) {
                    throw new IOException("exported " + found.length() + " bytes");
                }
                break;
            case "discard":
                String path = "/v1/datasets/" + kept;
                call("DELETE", path, "application/json", BodyPublishers.noBody());
                break;
            default:
                throw new IllegalArgumentException(words[0]);
        }
    }

    public static void main(String[] arguments) throws IOException {
        JavaSdk sdk = new JavaSdk(arguments[0], arguments[1], arguments[2], arguments[3]);
        System.out.println("ok");
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            try {
                sdk.run(line.split(" "));
                System.out.println("ok");
            } catch (Exception error) {
                System.out.println(("failed " + error).replace('\n', ' '));
            }
        }
    }
}
