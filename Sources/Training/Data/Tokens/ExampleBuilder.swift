import JSONValues

/// Turns encoded samples into examples: cuts, splits and counts, and notes what is odd.
struct ExampleBuilder {
  /// Samples that are compared for being equal; more would cost memory without end.
  private static let mostCompared = 4 << 20

  private let options: TokenizedDataset.Options
  private var writer = TokenStoreWriter()
  private var starts: [Int] = [0]
  private var counts = ExampleCounts()
  private var remarks: [DataRemark] = []
  private var places: [DataRemark.Kind: Int] = [:]
  private var seen: Set<UInt64> = []
  private var checksum = CRC32()
  private(set) var sources: [TokenizedDataset.Source]
  /// Of a text that is cut into windows: what has no window yet.
  private var rest = EncodedSample()

  init(_ sources: [DatasetSource], _ options: TokenizedDataset.Options) {
    self.options = options
    self.sources = sources.map { .init(path: $0.path, count: 0, weight: $0.weight) }
  }

  /// Samples taken so far.
  var sampleCount: Int { counts.samples }

  /// Takes the tokens of a sample that begins at a line of a file.
  mutating func add(_ documents: [EncodedSample], source: Int, line: Int) throws(DatasetError) {
    let path = sources[source].path
    for kind in documents.flatMap(\.remarks) { try note(kind, path, line) }
    guard documents.count == (options.pairs ? 2 : 1) else {
      throw DatasetError(
        path: path, line: line,
        options.pairs
          ? "the sample has one answer; preference tuning needs pairs (`chosen` and `rejected`)"
          : "the sample is a preference pair (`chosen`/`rejected`); it has no single answer to train on")
    }
    if documents[0].document != nil { return try addText(documents[0], source) }
    counts.samples += 1
    try compare(documents, path, line)
    let limit = options.maxSequenceLength
    if options.strict, let long = documents.first(where: { $0.ids.count > limit }) {
      throw DatasetError(
        path: path, line: line, "the sample has \(long.ids.count) tokens, the limit (--max-seq-length) is \(limit)")
    }
    guard documents.allSatisfy({ $0.isTrained.dropFirst().contains(true) }) else {
      counts.withoutResponse += 1
      return
    }
    if documents.allSatisfy({ $0.ids.count <= limit }) {
      return try append(documents.map { ($0, 0..<$0.ids.count) }, source)
    }
    switch options.longSamples {
    case .drop: counts.tooLong += 1
    case .split where !options.pairs: try split(documents[0], source)
    case .cut, .split: try cut(documents, source)
    }
  }

  /// The dataset, once all samples are in.
  mutating func finish() throws(DatasetError) -> TokenizedDataset {
    let store = try writer.finish()
    starts.withUnsafeBytes { checksum.update($0) }
    return TokenizedDataset(
      store: store, starts: starts, counts: counts, remarks: remarks, sources: sources,
      fingerprint: "\(counts.examples) examples, \(store.count) tokens, \(checksum.hexadecimal)", options: options)
  }

  // MARK: Too long

  private mutating func cut(_ documents: [EncodedSample], _ source: Int) throws(DatasetError) {
    counts.truncated += 1
    let limit = options.maxSequenceLength
    var isWithinTurn = false
    var parts: [(EncodedSample, Range<Int>)] = []
    for document in documents {
      var end = min(document.ids.count, limit)
      if end < document.ids.count {
        if let turn = document.turnEnds.last(where: { $0 <= limit }), document.isTrained[1..<turn].contains(true) {
          end = turn
        } else {
          isWithinTurn = true
        }
      }
      guard end > 1, document.isTrained[1..<end].contains(true) else {
        counts.cutBeforeResponse += 1
        return
      }
      parts.append((document, 0..<end))
    }
    if isWithinTurn { counts.cutWithinTurn += 1 }
    try append(parts, source)
  }

  /// Pieces that end with a turn where one ends in time; else they share a token, so that every token is predicted once.
  private mutating func split(_ sample: EncodedSample, _ source: Int) throws(DatasetError) {
    counts.split += 1
    var start = 0
    while start < sample.ids.count - 1 {
      var end = sample.ids.count
      var next = end
      if end - start > options.maxSequenceLength {
        end = start + options.maxSequenceLength
        next = end - 1
        if let turn = sample.turnEnds.last(where: { $0 <= end }), turn > start + 1 { (end, next) = (turn, turn) }
      }
      if sample.isTrained[start + 1..<end].contains(true) { try append([(sample, start..<end)], source) }
      start = next
    }
  }

  /// Windows share a token, so that every token but the first is predicted exactly once.
  private mutating func addText(_ piece: EncodedSample, _ source: Int) throws(DatasetError) {
    let (continues, isContinued) = piece.document ?? (false, false)
    if !continues {
      counts.samples += 1
      rest = EncodedSample()
    }
    rest.ids += piece.ids
    rest.isTrained += piece.isTrained
    let limit = options.maxSequenceLength
    var start = 0
    // Where more follows, a window needs a token behind it to go on from.
    while rest.ids.count - start > (isContinued ? limit : 1) {
      let end = min(start + limit, rest.ids.count)
      try append([(rest, start..<end)], source)
      start = end - 1
      if end == rest.ids.count { break }
    }
    if !isContinued {
      if rest.ids.count < 2 { counts.withoutResponse += 1 }
      rest = EncodedSample()
    } else {
      rest.ids.removeFirst(start)
      rest.isTrained.removeFirst(start)
    }
  }

  private mutating func append(_ parts: [(sample: EncodedSample, range: Range<Int>)], _ source: Int)
    throws(DatasetError)
  {
    var length = 0
    for (sample, range) in parts {
      let (ids, isTrained) = (sample.ids[range], sample.isTrained[range])
      try writer.append(ids, isTrained)
      ids.withUnsafeBytes { checksum.update($0) }
      isTrained.withUnsafeBytes { checksum.update($0) }
      starts.append(writer.count)
      length += range.count
      counts.trainedTokens += isTrained.dropFirst().count { $0 }
    }
    counts.examples += 1
    counts.tokens += length
    counts.longest = max(counts.longest, length)
    sources[source].count += 1
  }

  // MARK: Oddities

  private mutating func note(_ kind: DataRemark.Kind, _ path: String, _ line: Int) throws(DatasetError) {
    if options.strict, kind != .duplicate {
      throw DatasetError(path: path, line: line, "a sample \(kind.description): \(kind.consequence) (--strict)")
    }
    if let place = places[kind] {
      remarks[place].count += 1
    } else {
      places[kind] = remarks.count
      remarks.append(DataRemark(kind: kind, count: 1, path: path, line: line))
    }
  }

  private mutating func compare(_ documents: [EncodedSample], _ path: String, _ line: Int) throws(DatasetError) {
    guard seen.count < Self.mostCompared else { return }
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for id in documents.joined(by: \.ids) {
      hash = (hash ^ UInt64(UInt32(bitPattern: id))) &* 0x9E37_79B9_7F4A_7C15
      hash ^= hash >> 29
    }
    if !seen.insert(hash).inserted { try note(.duplicate, path, line) }
  }
}

extension [EncodedSample] {
  fileprivate func joined(by path: KeyPath<EncodedSample, [Int32]>) -> FlattenSequence<[[Int32]]> {
    map { $0[keyPath: path] }.joined()
  }
}
