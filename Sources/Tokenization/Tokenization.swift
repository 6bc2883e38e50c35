// Room: Tokenization.
