// Room: JSONValues.
