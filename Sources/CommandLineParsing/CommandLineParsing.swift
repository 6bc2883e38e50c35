// Room: CommandLineParsing.
