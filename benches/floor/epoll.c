/* The lower bound with many connections: one thread with epoll that only sends responses. */
#include <sys/epoll.h>

#include "answer.h"

enum { MOST = 65536, BATCH = 256 };
static char greeted[MOST];

int main(int argc, char **argv) {
	int listener = listen_at(argc, argv, SOCK_NONBLOCK);
	int poller = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
	struct epoll_event ready[BATCH];
	char request[4096];
	if (listener < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) != 0)
		return 1;
	for (;;) {
		int count = epoll_wait(poller, ready, BATCH, -1);
		if (count < 0 && errno != EINTR)
			return 1;
		for (int at = 0; at < count; at++) {
			int stream = ready[at].data.fd;
			if (stream == listener) {
				stream = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
				if (stream < 0 || stream >= MOST)
					continue;
				greeted[stream] = 0;
				event.data.fd = stream;
				epoll_ctl(poller, EPOLL_CTL_ADD, stream, &event);
				continue;
			}
			if (read(stream, request, sizeof request) <= 0 || !reply(stream, !greeted[stream]))
				close(stream);
			greeted[stream] = 1;
		}
	}
}
