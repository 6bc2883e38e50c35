import Tokenization

extension TokenizedDataset {
  /// Tokenizes a dataset; an error names the file and the line.
  ///
  /// Records are read as they are needed, tokenized by several threads and put down in their order: the memory that it
  /// takes does not depend on the size of the files. A dataset that leaves no example with a trained token is an error.
  init(_ dataset: Dataset, encoder: some ExampleEncoder, options: Options) throws {
    var builder = ExampleBuilder(dataset.sources, options)
    var reader = dataset.makeReader()
    let sources = dataset.sources
    while builder.sampleCount < options.sampleLimit {
      let room = min(64 * options.threads, options.sampleLimit - builder.sampleCount)
      let records = try reader.next(atMost: room, byteCount: options.threads * RecordReader.pieceBytes)
      if records.isEmpty { break }
      let encoded = try parallelMap(records.indices, threads: options.threads) { index in
        let record = records[index]
        let source = sources[record.source]
        let sample = try source.sample(record.raw, isFirst: record.isFirst)
        do {
          return try encoder.encode(sample, trainOn: options.trainOn)
        } catch {
          throw DatasetError(
            path: source.path, line: record.raw.line, (error as? FormatProblem)?.message ?? "\(error)")
        }
      }
      for (record, documents) in zip(records, encoded) {
        try builder.add(documents, source: record.source, line: record.raw.line)
      }
    }
    self = try builder.finish()
    if count == 0 { throw DatasetError(path: dataset.sources[0].path, counts.nothingLeft(options)) }
  }

  /// Tokenizes a dataset; an error names the file and the line.
  ///
  /// A dataset that leaves no example with a trained token is an error. With `isCached`, the tokens of large data are kept
  /// on the disk, where the next run with the same data, tokenizer and options finds them.
  public init(_ dataset: Dataset, tokenizer: Tokenizer, options: Options, isCached: Bool = false) throws {
    let cache = isCached ? TokenCache.defaultFolder.map { TokenCache(folder: $0) } : nil
    let encoder = TokenizerEncoder(tokenizer: tokenizer, parsesSpecialTokens: options.parsesSpecialTokens)
    self = try Self.cached(dataset, encoder: encoder, options: options, cache)
  }

  /// The tokens of a dataset from the cache, or made and put there.
  ///
  /// A cache that cannot be written is no reason to stop.
  static func cached(_ dataset: Dataset, encoder: some ExampleEncoder, options: Options, _ cache: TokenCache?) throws
    -> TokenizedDataset
  {
    guard let cache, let key = TokenCache.key(dataset, encoder: encoder, options: options) else {
      return try TokenizedDataset(dataset, encoder: encoder, options: options)
    }
    if let found = cache.load(key, dataset, options) { return found }
    let made = try TokenizedDataset(dataset, encoder: encoder, options: options)
    return (try? cache.save(key, made)) ?? made
  }
}
