/* The lower bound of a call of the helper: connect, send a request, print the token, exit.
 * Usage: client SOCKET REQUEST_FILE TEXT_OFFSET TEXT_LENGTH ANSWER_LENGTH */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
	char request[4096], answer[65536];
	if (argc != 6)
		return 2;
	int file = open(argv[2], O_RDONLY | O_CLOEXEC);
	ssize_t length = read(file, request, sizeof request);
	close(file);
	size_t offset = strtoul(argv[3], NULL, 10);
	size_t text = strtoul(argv[4], NULL, 10);
	size_t whole = strtoul(argv[5], NULL, 10);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
	int stream = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (length <= 0 || connect(stream, (struct sockaddr *)&address, sizeof address) != 0)
		return 69;
	if (write(stream, request, length) != length)
		return 75;
	for (size_t filled = 0; filled < whole;) {
		ssize_t got = read(stream, answer + filled, sizeof answer - filled);
		if (got <= 0)
			return 75;
		filled += got;
	}
	answer[offset + text] = '\n';
	return write(1, answer + offset, text + 1) == (ssize_t)(text + 1) ? 0 : 74;
}
