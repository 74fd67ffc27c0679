//! Containers: the records of what runs and what ran.
