// Room: Export.
