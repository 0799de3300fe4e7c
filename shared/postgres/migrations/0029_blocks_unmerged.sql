-- blocks_counted (0028) takes its place.
DROP INDEX blocks_unmerged;
