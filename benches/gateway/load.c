// The origin and the clients of compare.py.
//
//   load origin                              serves on a free port, which it prints
//   load small PORT TOKEN REQUESTS CLIENTS   sends small GETs over kept connections
//   load down PORT TOKEN BYTES               receives a body
//   load up PORT TOKEN BYTES                 sends a body
//   load hold PORT TOKEN CLIENTS down|up     keeps transfers open that stand still, until standard input ends
//
// All but hold print the seconds that they took. A thread for each connection keeps it simple.

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 16384, BLOCK = 262144 };

static char block[BLOCK];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static int send_all(int stream, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t sent = write(stream, bytes, length);
        if (sent <= 0) return -1;
        bytes += sent;
        length -= sent;
    }
    return 0;
}

static int send_zeros(int stream, long long length) {
    while (length > 0) {
        size_t part = length < BLOCK ? length : BLOCK;
        if (send_all(stream, block, part) < 0) return -1;
        length -= part;
    }
    return 0;
}

// Reads a head into `head`, which it ends with a zero. Returns the number of bytes after it, which follow it there, or
// -1 at the end of the connection.
static ssize_t read_head(int stream, char *head) {
    size_t length = 0;
    for (;;) {
        ssize_t got = read(stream, head + length, HEAD - 1 - length);
        if (got <= 0) return -1;
        length += got;
        head[length] = 0;
        char *end = strstr(head, "\r\n\r\n");
        if (end) {
            ssize_t rest = head + length - end - 4;
            end[2] = 0;
            return rest;
        }
    }
}

static long long content_length(const char *head) {
    const char *found = strcasestr(head, "\ncontent-length:");
    return found ? atoll(found + 16) : 0;
}

// Discards that many bytes.
static int discard(int stream, long long length) {
    char buffer[65536];
    while (length > 0) {
        ssize_t got = read(stream, buffer, length < (long long)sizeof buffer ? (size_t)length : sizeof buffer);
        if (got <= 0) return -1;
        length -= got;
    }
    return 0;
}

static int answer(int stream, const char *head, ssize_t rest) {
    static const char small[] = "{\"id\":\"4405ff58-1957-45f0-82bd-914d989a3ea3\",\"name\":\"Leonhard Euler Party\","
                                "\"description\":\"Mathematician Guest List\",\"rows\":2,\"columns\":2}";
    char text[1024];
    if (!strcasestr(head, "\nauthorization: Bearer ")) {
        const char *denied = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
        return send_all(stream, denied, strlen(denied));
    }
    if (!strncmp(head, "PUT ", 4)) {
        if (strstr(head, "stall")) pause();
        const char *go_on = "HTTP/1.1 100 Continue\r\n\r\n";
        if (strcasestr(head, "\nexpect:") && send_all(stream, go_on, strlen(go_on)) < 0) return -1;
        if (discard(stream, content_length(head) - rest) < 0) return -1;
        const char *done = "HTTP/1.1 204 No Content\r\n\r\n";
        return send_all(stream, done, strlen(done));
    }
    const char *bytes = strstr(head, "bytes=");
    if (bytes) {
        long long length = atoll(bytes + 6);
        int size = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\n\r\n", length);
        return send_all(stream, text, size) < 0 ? -1 : send_zeros(stream, length);
    }
    int size = snprintf(text, sizeof text,
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                        sizeof small - 1, small);
    return send_all(stream, text, size);
}

static void *serve(void *argument) {
    int stream = (int)(long)argument;
    char *head = malloc(HEAD);
    for (;;) {
        ssize_t rest = read_head(stream, head);
        if (rest < 0 || answer(stream, head, rest) < 0) break;
    }
    free(head);
    close(stream);
    return NULL;
}

static void start(pthread_t *thread, void *(*job)(void *), void *argument) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    if (pthread_create(thread, &attributes, job, argument)) fail("pthread_create");
}

static void origin(void) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 512)) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int stream = accept(listener, NULL, NULL);
        pthread_t thread;
        if (stream < 0) fail("accept");
        setsockopt(stream, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        start(&thread, serve, (void *)(long)stream);
        pthread_detach(thread);
    }
}

static int port;
static const char *token;
static long long count;

static int open_stream(void) {
    int stream = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (connect(stream, (struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(stream, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return stream;
}

static void request(int stream, const char *method, const char *path, long long length) {
    char text[4096], more[64] = "";
    if (length) snprintf(more, sizeof more, "Content-Type: text/csv\r\nContent-Length: %lld\r\n", length);
    int size = snprintf(text, sizeof text,
                        "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: python-requests/2.32\r\n"
                        "Accept-Encoding: gzip, deflate\r\nAccept: application/json\r\n"
                        "Authorization: bearer %s\r\n%s\r\n",
                        method, path, port, token, more);
    if (send_all(stream, text, size) < 0) fail("request");
}

// Reads a response with status 2xx, and its body.
static void response(int stream) {
    char head[HEAD];
    ssize_t rest = read_head(stream, head);
    if (rest < 0 || strncmp(head, "HTTP/1.1 2", 10)) {
        fprintf(stderr, "response: %.400s\n", rest < 0 ? "none" : head);
        exit(1);
    }
    if (discard(stream, content_length(head) - rest) < 0) fail("body");
}

static void *small(void *argument) {
    int stream = open_stream();
    for (long long left = count; left > 0; left--) {
        request(stream, "GET", "/v1/datasets/4405ff58-1957-45f0-82bd-914d989a3ea3", 0);
        response(stream);
    }
    close(stream);
    return argument;
}

// Sends until nothing more is accepted.
static void *fill(void *argument) {
    send_zeros((int)(long)argument, 67108864);
    return NULL;
}

static void hold(int clients, const char *direction) {
    for (int client = 0; client < clients; client++) {
        // Not all at once: the gateway has places for 32 connections whose first request has not arrived.
        usleep(20000);
        int stream = open_stream();
        if (!strcmp(direction, "down")) {
            // Reads nothing, so that all buffers on the way fill.
            request(stream, "GET", "/v1/datasets/x?bytes=67108864", 0);
            continue;
        }
        request(stream, "PUT", "/v1/datasets/stall/data", 67108864);
        struct timeval limit = {.tv_sec = 2};
        setsockopt(stream, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        pthread_t thread;
        start(&thread, fill, (void *)(long)stream);
    }
    sleep(4);
    puts("ready");
    fflush(stdout);
    char end;
    while (read(0, &end, 1) > 0) continue;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    if (argc == 2 && !strcmp(argv[1], "origin")) origin();
    if (argc < 5) return 2;
    port = atoi(argv[2]);
    token = argv[3];
    count = atoll(argv[4]);
    double begin = now();
    if (!strcmp(argv[1], "small")) {
        int clients = atoi(argv[5]);
        pthread_t threads[clients];
        count /= clients;
        for (int at = 0; at < clients; at++) start(&threads[at], small, NULL);
        for (int at = 0; at < clients; at++) pthread_join(threads[at], NULL);
    } else if (!strcmp(argv[1], "down")) {
        char path[128];
        snprintf(path, sizeof path, "/v1/datasets/x/data?bytes=%lld", count);
        int stream = open_stream();
        request(stream, "GET", path, 0);
        response(stream);
    } else if (!strcmp(argv[1], "up")) {
        int stream = open_stream();
        request(stream, "PUT", "/v1/datasets/x/data", count);
        if (send_zeros(stream, count) < 0) fail("body");
        response(stream);
    } else {
        hold(count, argv[5]);
        return 0;
    }
    printf("%.6f\n", now() - begin);
    return 0;
}
