/* Callers of any of the daemons, one request per connection.
 * load ask SOCKET REQUEST_FILE THREADS SECONDS ANSWER_BYTES HALF_CLOSE   prints responses per second
 * load garbage SOCKET SECONDS                                            sends invalid requests repeatedly
 * load time INPUT_FILE TIMES COMMAND...                                  prints the median microseconds */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static char request[65536];
static ssize_t request_length;
static size_t answer_bytes;
static int half_close;
static double end;

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Returns zero if there was no response. */
static int ask(void) {
	char answer[65536];
	size_t filled = 0;
	struct timeval patience = {.tv_sec = 5};
	int stream = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(stream, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (connect(stream, (struct sockaddr *)&address, sizeof address) == 0 &&
	    send(stream, request, request_length, MSG_NOSIGNAL) == request_length) {
		if (half_close)
			shutdown(stream, SHUT_WR);
		/* After closing its side, a caller waits for the other's end: git's daemon crashes if a caller is gone. */
		while (half_close || filled < answer_bytes) {
			ssize_t got = read(stream, answer, sizeof answer);
			if (got <= 0)
				break;
			filled += got;
		}
	}
	close(stream);
	return filled >= answer_bytes;
}

static void *caller(void *count) {
	long answered = 0;
	while (now() < end)
		answered += ask();
	*(long *)count = answered;
	return NULL;
}

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

extern char **environ;

/* Discards the command's output. */
static int time_command(const char *input, int times, char **command) {
	double spans[10000];
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, input, O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	if (times < 1 || times > 10000)
		return 2;
	for (int at = 0; at < times; at++) {
		pid_t child;
		int status;
		double start = now();
		if (posix_spawnp(&child, command[0], &actions, NULL, command, environ) != 0)
			return 127;
		if (waitpid(child, &status, 0) != child || status != 0)
			return 1;
		spans[at] = now() - start;
	}
	qsort(spans, times, sizeof *spans, ascending);
	printf("%.1f\n", spans[times / 2] * 1e6);
	return 0;
}

int main(int argc, char **argv) {
	if (argc < 4)
		return 2;
	if (strcmp(argv[1], "time") == 0)
		return argc < 5 ? 2 : time_command(argv[2], atoi(argv[3]), argv + 4);
	strncpy(address.sun_path, argv[2], sizeof address.sun_path - 1);
	if (strcmp(argv[1], "garbage") == 0) {
		request_length = sizeof request;
		answer_bytes = 1;
		for (size_t at = 0; at < sizeof request; at++)
			request[at] = rand();
		for (end = now() + atof(argv[3]); now() < end;)
			ask();
		return 0;
	}
	int file = open(argv[3], O_RDONLY);
	request_length = read(file, request, sizeof request);
	int threads = atoi(argv[4]);
	double seconds = atof(argv[5]);
	answer_bytes = strtoul(argv[6], NULL, 10);
	half_close = atoi(argv[7]);
	pthread_t thread[1024];
	long count[1024], all = 0;
	if (request_length <= 0 || threads < 1 || threads > 1024)
		return 2;
	end = now() + seconds;
	for (int at = 0; at < threads; at++)
		pthread_create(&thread[at], NULL, caller, &count[at]);
	for (int at = 0; at < threads; at++) {
		pthread_join(thread[at], NULL);
		all += count[at];
	}
	printf("%.0f\n", all / seconds);
	return 0;
}
