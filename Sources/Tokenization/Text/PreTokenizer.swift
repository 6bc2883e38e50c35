import JSONValues

/// How a text is cut into the words that the model sees one by one (the `pre_tokenizer` of tokenizer.json).
indirect enum PreTokenizer: Sendable {
  /// Words of bytes: an optional space in front, an optional cut by GPT-2's pattern, and the byte alphabet.
  case byteLevel(addPrefixSpace: Bool, cuts: Bool)
  /// The words of a known pattern.
  case words(WordScanner)
  case split(TextPattern, SplitBehavior, invert: Bool)
  case digits(individual: Bool)
  case punctuation(SplitBehavior)
  /// Words and runs of signs; white space is dropped.
  case whitespace
  case whitespaceSplit
  case metaspace(replacement: [UInt8], prepend: PrependScheme, split: Bool)
  case sequence([PreTokenizer])

  /// When a metaspace is put in front of a piece.
  enum PrependScheme: String { case always, first, never }

  /// GPT-2's pattern, as `ByteLevel` uses it.
  static let gpt2Pattern = #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

  /// Each match of a regular expression is a word, and each gap between two.
  static func isolating(_ pattern: String) throws(TokenizationError) -> PreTokenizer {
    if let scanner = WordScanner(pattern: pattern) { return .words(scanner) }
    return .split(.expression(try RegularExpression(pattern)), .isolated, invert: false)
  }

  /// Reads the description in tokenizer.json; `nil` for `null`.
  static func read(_ value: JSONValue?, at place: String) throws(TokenizationError) -> PreTokenizer? {
    guard let value, !value.isNull else { return nil }
    guard let type = value["type"]?.string else { throw TokenizationError("\(place): \"type\" is missing") }
    switch type {
    case "Sequence":
      var steps: [PreTokenizer] = []
      for (index, step) in (value["pretokenizers"]?.array ?? []).enumerated() {
        if let step = try read(step, at: "\(place).pretokenizers[\(index)]") { steps.append(step) }
      }
      return .sequence(steps)
    case "ByteLevel":
      return .byteLevel(
        addPrefixSpace: value["add_prefix_space"]?.bool ?? true, cuts: value["use_regex"]?.bool ?? true)
    case "Split":
      let behavior = try behavior(value, "Isolated", at: place)
      let invert = value["invert"]?.bool ?? false
      if let pattern = value["pattern"]?["Regex"]?.string, behavior == .isolated || (behavior == .removed && invert),
        let scanner = WordScanner(pattern: pattern)
      {
        return .words(scanner)
      }
      return .split(try TextPattern(value["pattern"], at: "\(place).pattern"), behavior, invert: invert)
    case "Digits": return .digits(individual: value["individual_digits"]?.bool ?? false)
    case "Punctuation": return .punctuation(try behavior(value, "Isolated", at: place))
    case "Whitespace": return .whitespace
    case "WhitespaceSplit": return .whitespaceSplit
    case "Metaspace":
      let name = value["prepend_scheme"]?.string ?? ((value["add_prefix_space"]?.bool ?? true) ? "always" : "never")
      guard let scheme = PrependScheme(rawValue: name) else {
        throw TokenizationError("\(place): the prepend_scheme \"\(name)\" is none of always, first, never")
      }
      return .metaspace(
        replacement: Array((value["replacement"]?.string ?? "\u{2581}").utf8), prepend: scheme,
        split: value["split"]?.bool ?? true)
    default:
      throw TokenizationError(
        "\(place): the pre-tokenizer \"\(type)\" is not known; known are ByteLevel, Split, Digits, Punctuation, "
          + "Whitespace, WhitespaceSplit, Metaspace and Sequence")
    }
  }

  private static func behavior(
    _ value: JSONValue, _ standard: String, at place: String
  ) throws(TokenizationError) -> SplitBehavior {
    let name = value["behavior"]?.string ?? standard
    guard let behavior = SplitBehavior(rawValue: name) else {
      throw TokenizationError("\(place): the behavior \"\(name)\" is not known")
    }
    return behavior
  }

  /// The steps one after the other, sequences resolved.
  var steps: [PreTokenizer] {
    if case .sequence(let steps) = self { steps.flatMap(\.steps) } else { [self] }
  }

  /// The same as steps that make pieces and, where the last one only cuts, the scanner that does it.
  ///
  /// A scanner's words can go to the model as they are found. `keepsBytes` as in `apply`.
  func withScannerLast(keepsBytes: Bool) -> (steps: [PreTokenizer], scanner: WordScanner?) {
    var steps = steps
    if keepsBytes, case .byteLevel(let addPrefixSpace, let cuts)? = steps.last {
      steps.removeLast()
      if addPrefixSpace { steps.append(.byteLevel(addPrefixSpace: true, cuts: false)) }
      if cuts { steps.append(.words(.gpt2)) }
    }
    guard case .words(var scanner)? = steps.last else { return (steps, nil) }
    steps.removeLast()
    if scanner == .gpt2, case .digits(individual: true)? = steps.last {
      steps.removeLast()
      scanner = .digitsThenGPT2
    }
    return (steps, scanner)
  }

  /// Whether cutting depends on where in the original text a piece begins.
  var needsOrigins: Bool {
    steps.contains { if case .metaspace(_, .first, _) = $0 { true } else { false } }
  }

  /// Cuts the pieces of a segment further.
  ///
  /// `ByteLevel`'s alphabet is left to the model when `keepsBytes` is true.
  func apply(to segment: Segment, keepsBytes: Bool) {
    switch self {
    case .sequence(let steps):
      for step in steps { step.apply(to: segment, keepsBytes: keepsBytes) }
    case .words(let scanner): Self.cut(segment, scanner)
    case .byteLevel(let addPrefixSpace, let cuts):
      if addPrefixSpace, segment.pieces.contains(where: { segment.base[$0.lowerBound] != 0x20 }) {
        segment.rewrite { piece, rewriter in
          if segment.base[piece.lowerBound] != 0x20 {
            rewriter.replace(piece.lowerBound..<piece.lowerBound, with: CollectionOfOne(0x20))
          }
          rewriter.keep(piece)
        }
      }
      if cuts { Self.cut(segment, .gpt2) }
      if !keepsBytes {
        segment.rewrite { piece, rewriter in
          for index in piece {
            rewriter.replace(
              index..<index + 1, with: String(ByteAlphabet.scalars[Int(segment.base[index])]).utf8)
          }
        }
      }
    case .split(let pattern, let behavior, let invert):
      Self.split(segment, at: pattern, behavior, invert: invert)
    case .digits(let individual):
      Self.split(segment, individual ? .isolated : .contiguous) { $0.isNumeric }
    case .punctuation(let behavior): Self.split(segment, behavior) { $0.isPunctuation }
    case .whitespaceSplit: Self.split(segment, .removed) { $0.isWhiteSpace }
    case .whitespace: Self.splitIntoWords(segment)
    case .metaspace(let replacement, let prepend, let cuts):
      segment.rewrite { piece, rewriter in
        let isFirst = segment.origin(of: piece.lowerBound..<piece.lowerBound + 1).lowerBound == 0
        let startsWithIt = Self.starts(segment, piece, with: replacement) || segment.base[piece.lowerBound] == 0x20
        if !startsWithIt, prepend == .always || (prepend == .first && isFirst) {
          rewriter.replace(piece.lowerBound..<piece.lowerBound, with: replacement)
        }
        for index in piece {
          if segment.base[index] == 0x20 {
            rewriter.replace(index..<index + 1, with: replacement)
          } else {
            rewriter.keep(index..<index + 1)
          }
        }
      }
      if cuts { Self.split(segment, at: .literal(replacement), .mergedWithNext, invert: false) }
    }
  }

  private static func cut(_ segment: Segment, _ scanner: WordScanner) {
    var words: [Range<Int>] = []
    words.reserveCapacity(segment.pieces.count + segment.count / 4)
    for piece in segment.pieces {
      scanner.forEachBatch(of: segment.base, piece, readable: segment.count) { start, ends in
        var start = start
        for end in ends {
          words.append(start..<end)
          start = end
        }
      }
    }
    segment.pieces = words
  }

  private static func starts(_ segment: Segment, _ piece: Range<Int>, with prefix: [UInt8]) -> Bool {
    piece.count >= prefix.count && prefix.indices.allSatisfy { segment.base[piece.lowerBound + $0] == prefix[$0] }
  }

  private static func split(
    _ segment: Segment, at pattern: TextPattern, _ behavior: SplitBehavior, invert: Bool
  ) {
    var collector = PieceCollector(behavior, capacity: segment.pieces.count + segment.count / 8)
    pattern.forEach(
      in: segment.base, segment.pieces, begin: { _ in collector.beginText() },
      { range, isMatch in collector.add(range, isMatch: isMatch != invert) })
    segment.pieces = collector.finish()
  }

  private static func split(
    _ segment: Segment, _ behavior: SplitBehavior, where isMatch: (Unicode.Scalar) -> Bool
  ) {
    var collector = PieceCollector(behavior, capacity: segment.pieces.count + segment.count / 16)
    for piece in segment.pieces {
      collector.beginText()
      var done = piece.lowerBound
      var index = piece.lowerBound
      while index < piece.upperBound {
        let next = UTF8Bytes.scalar(segment.base, index, piece.upperBound)
        if isMatch(next.scalar) {
          if done < index { collector.add(done..<index, isMatch: false) }
          collector.add(index..<index + next.length, isMatch: true)
          done = index + next.length
        }
        index += next.length
      }
      if done < piece.upperBound { collector.add(done..<piece.upperBound, isMatch: false) }
    }
    segment.pieces = collector.finish()
  }

  private static func splitIntoWords(_ segment: Segment) {
    /// 0 for white space, 1 for a word's characters, 2 for the rest.
    func kind(_ scalar: Unicode.Scalar) -> Int { scalar.isWord ? 1 : scalar.isWhiteSpace ? 0 : 2 }
    var result: [Range<Int>] = []
    for piece in segment.pieces {
      var start = piece.lowerBound
      var current = 0
      var index = piece.lowerBound
      while index < piece.upperBound {
        let next = UTF8Bytes.scalar(segment.base, index, piece.upperBound)
        let nextKind = kind(next.scalar)
        if nextKind != current {
          if current != 0 { result.append(start..<index) }
          (start, current) = (index, nextKind)
        }
        index += next.length
      }
      if current != 0 { result.append(start..<piece.upperBound) }
    }
    segment.pieces = result
  }
}
