"""Running a study: workers, executors, progress, jobs in processes of their own, and merging shares."""
