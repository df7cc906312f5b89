"""The command line. Exit codes: 0 done, 1 the answer is no, 2 bad input, 3 the store is not there,
4 no such task."""
