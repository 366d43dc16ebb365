"""What every package needs of the disk: the cache folder, atomic writes, locks, wheels. Imports nothing of ours."""
