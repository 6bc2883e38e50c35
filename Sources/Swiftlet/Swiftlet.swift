// Room: Swiftlet.
