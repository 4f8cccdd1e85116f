import http from "node:http";

/**
 * Starts an HTTP server in place of Domo's API. `respond(request, response)` ends the response; the bodies and headers
 * received are in `requests`.
 */
export async function startApi(t, respond) {
  const requests = [];
  const server = http.createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request.setEncoding("utf8")) {
      body += chunk;
    }
    const seen = { method: request.method, url: request.url, headers: request.headers, body };
    requests.push(seen);
    respond(seen, response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections?.();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, requests };
}

/** Ends a response. */
export function end(response, status, body = "", headers = {}) {
  response.writeHead(status, headers);
  response.end(body);
}
