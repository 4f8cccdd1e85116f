/* The lower bound of a round trip: one blocking thread per connection that reads and writes. */
#include <pthread.h>
#include <stdint.h>

#include "answer.h"

static void *serve(void *argument) {
	int stream = (int)(intptr_t)argument;
	char request[4096];
	for (int first = 1; read(stream, request, sizeof request) > 0; first = 0)
		if (!reply(stream, first))
			break;
	close(stream);
	return NULL;
}

int main(int argc, char **argv) {
	int listener = listen_at(argc, argv, 0);
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
	for (;;) {
		pthread_t thread;
		int stream = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (stream < 0)
			return 1;
		if (pthread_create(&thread, &small, serve, (void *)(intptr_t)stream) != 0)
			return 1;
	}
}
