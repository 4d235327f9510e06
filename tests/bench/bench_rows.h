/* The rows that the SQLite benches write: the same for the bare program and for the store. */
#ifndef ASSAY_TESTS_BENCH_BENCH_ROWS_H
#define ASSAY_TESTS_BENCH_BENCH_ROWS_H

#define BENCH_TENANT "default" /* as without tokens */
#define BENCH_TYPE "evaluation"
#define BENCH_QUEUE "default"
#define BENCH_EXECUTOR "noop"
/* 600 bytes, as a small evaluation has. */
#define BENCH_FILL_50 "print('hello, world'); x = [i * i for i in range]\\n"
#define BENCH_PARAMS \
	"{\"language\":\"python\",\"files\":[{\"path\":\"main.py\",\"content\":\"" BENCH_FILL_50 BENCH_FILL_50 \
		BENCH_FILL_50 BENCH_FILL_50 BENCH_FILL_50 BENCH_FILL_50 BENCH_FILL_50 BENCH_FILL_50 BENCH_FILL_50 \
	"\"}],\"timeout\":300,\"memory_limit\":536870912,\"cpu_limit\":500,\"fail_fast\":false}"

#endif
