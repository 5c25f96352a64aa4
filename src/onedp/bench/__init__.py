"""Every method at the same table: tasks of the benchmark, its cells, its rows."""
