/* Shared by both minimal servers: the bytes of their responses, and their socket.
 * Usage: PROGRAM SOCKET ANSWER_FILE; the file has the greeting before the frame. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { GREETING = 12 };
static char answer[65536];
static ssize_t answer_length;

static int listen_at(int argc, char **argv, int flags) {
	if (argc != 3)
		return -1;
	int file = open(argv[2], O_RDONLY | O_CLOEXEC);
	answer_length = read(file, answer, sizeof answer);
	close(file);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	if (answer_length <= GREETING || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
	    listen(listener, 4096) != 0)
		return -1;
	return listener;
}

/* Only a connection's first response has the greeting. */
static int reply(int stream, int first) {
	size_t skip = first ? 0 : GREETING;
	ssize_t length = answer_length - skip;
	return write(stream, answer + skip, length) == length;
}
