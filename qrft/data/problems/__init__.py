"""Problem sets: the known ones by name, a file each (`registry` lists them), and files of people's own."""
