/*
 * bench_blk aerie FILE direct|cached LOAD…	aerie's own device on FILE
 * bench_blk poll FILE direct|cached LOAD…	the same with poll_us 32, which is what QEMU does if not told
 * otherwise bench_blk registered FILE …	the same with the RAM registered in the io_uring
 * bench_blk vhost SOCKET PID LOAD…		a vhost-user back end, its CPU time being that of PID
 *
 * LOAD: read|write random|sequential BLOCK_BYTES DEPTH SECONDS DISK_BYTES. Prints "IOPS CPU_US".
 */
#include "traffic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	struct target target;
	if (argc != 10) {
		(void)fprintf(stderr, "see the top of bench_blk.c\n");
		return 2;
	}
	const struct load load = {.write = !strcmp(argv[4], "write"),
				  .sequential = !strcmp(argv[5], "sequential"),
				  .block_bytes = (uint32_t)strtoul(argv[6], NULL, 0),
				  .depth = (uint32_t)strtoul(argv[7], NULL, 0),
				  .seconds = strtod(argv[8], NULL),
				  .disk_bytes = strtoull(argv[9], NULL, 0)};
	bool poll = !strcmp(argv[1], "poll"), registered = !strcmp(argv[1], "registered");
	if (poll || registered || !strcmp(argv[1], "aerie"))
		aerie_open(&target, argv[2], !strcmp(argv[3], "direct"), poll ? 32 : 0, registered);
	else
		vhost_open(&target, argv[2], atoi(argv[3]));
	struct result result = traffic_run(&target, &load);
	if (target.close)
		target.close(&target);
	printf("%.0f %.3f\n", result.iops, result.cpu_us);
	return 0;
}
