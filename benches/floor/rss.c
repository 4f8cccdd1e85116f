/* Prints the peak memory of a command, in KiB, on standard error. Usage: rss COMMAND... */
#include <spawn.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

extern char **environ;

int main(int argc, char **argv) {
	pid_t child;
	int status;
	struct rusage used;
	if (argc < 2 || posix_spawn(&child, argv[1], NULL, NULL, argv + 1, environ) != 0)
		return 127;
	if (wait4(child, &status, 0, &used) != child || !WIFEXITED(status))
		return 126;
	fprintf(stderr, "%ld\n", used.ru_maxrss);
	return WEXITSTATUS(status);
}
