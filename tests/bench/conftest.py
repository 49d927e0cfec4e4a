"""pytest looks for doctests in every file: Dag files are Airflow's to import, with warnings of its own."""

collect_ignore = ["noop_dags"]
