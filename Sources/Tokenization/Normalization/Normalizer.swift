import JSONValues

/// What is done to a text before it is cut (the `normalizer` of tokenizer.json).
indirect enum Normalizer: Sendable {
  case canonicalForm(NormalizationForm)
  case prepend([UInt8])
  case replace(TextPattern, [UInt8])
  case strip(left: Bool, right: Bool)
  case stripAccents
  case lowercase
  case nmt
  /// Each byte becomes its character of GPT-2's alphabet.
  case byteLevel
  /// Hugging Face's way to apply SentencePiece's rules.
  case precompiled(PrecompiledCharacterMap)
  case sentencePiece(SentencePieceNormalizer)
  case sequence([Normalizer])

  /// Reads the description in tokenizer.json; `nil` for `null`.
  static func read(_ value: JSONValue?, at place: String) throws(TokenizationError) -> Normalizer? {
    guard let value, !value.isNull else { return nil }
    guard let type = value["type"]?.string else { throw TokenizationError("\(place): \"type\" is missing") }
    switch type {
    case "Sequence":
      var steps: [Normalizer] = []
      for (index, step) in (value["normalizers"]?.array ?? []).enumerated() {
        if let step = try read(step, at: "\(place).normalizers[\(index)]") { steps.append(step) }
      }
      return .sequence(steps)
    case "Prepend":
      guard let text = value["prepend"]?.string else { throw TokenizationError("\(place): \"prepend\" is missing") }
      return .prepend(Array(text.utf8))
    case "Replace":
      guard let content = value["content"]?.string else { throw TokenizationError("\(place): \"content\" is missing") }
      return .replace(try TextPattern(value["pattern"], at: "\(place).pattern"), Array(content.utf8))
    case "Strip":
      return .strip(left: value["strip_left"]?.bool ?? true, right: value["strip_right"]?.bool ?? true)
    case "StripAccents": return .stripAccents
    case "Lowercase": return .lowercase
    case "Nmt": return .nmt
    case "ByteLevel": return .byteLevel
    case "Precompiled":
      guard let text = value["precompiled_charsmap"]?.string else {
        throw TokenizationError("\(place): \"precompiled_charsmap\" is missing")
      }
      guard let bytes = Base64.decode(text.utf8) else {
        throw TokenizationError("\(place): \"precompiled_charsmap\" is no base64")
      }
      return .precompiled(try PrecompiledCharacterMap(bytes, at: place))
    default:
      if let form = NormalizationForm(rawValue: type) { return .canonicalForm(form) }
      throw TokenizationError(
        "\(place): the normalizer \"\(type)\" is not known; known are NFC, NFD, NFKC, NFKD, Prepend, Replace, Strip, "
          + "StripAccents, Lowercase, Nmt, ByteLevel, Precompiled and Sequence")
    }
  }

  /// Whether what is done depends on where in the original text a piece begins.
  var needsOrigins: Bool {
    switch self {
    case .sentencePiece(let normalizer): normalizer.prefixesOnlyFirst
    case .sequence(let steps): steps.contains(where: \.needsOrigins)
    default: false
    }
  }

  /// Rewrites the pieces of a segment.
  func apply(to segment: Segment) {
    switch self {
    case .sequence(let steps):
      for step in steps { step.apply(to: segment) }
    case .prepend(let text):
      segment.rewrite { piece, rewriter in
        rewriter.replace(piece.lowerBound..<piece.lowerBound, with: text)
        rewriter.keep(piece)
      }
    case .replace(let pattern, let content):
      segment.rewrite { piece, rewriter in
        pattern.forEach(in: segment.base, piece) { range, isMatch in
          if isMatch { rewriter.replace(range, with: content) } else { rewriter.keep(range) }
        }
      }
    case .strip(let left, let right): Self.strip(segment, left: left, right: right)
    case .stripAccents:
      let tables = NormalizationTables.shared
      Self.map(segment) { scalar in tables.isMark(scalar) ? .removed : .kept }
    case .lowercase:
      Self.map(segment) { scalar in
        if scalar.value < 0x80 {
          return (0x41...0x5A).contains(scalar.value) ? .replaced(Array(String(scalar).lowercased().utf8)) : .kept
        }
        let lower = scalar.properties.lowercaseMapping
        return lower.unicodeScalars.elementsEqual(CollectionOfOne(scalar)) ? .kept : .replaced(Array(lower.utf8))
      }
    case .nmt: Self.map(segment, Self.nmt)
    case .byteLevel:
      segment.rewrite { piece, rewriter in
        for index in piece {
          rewriter.replace(index..<index + 1, with: String(ByteAlphabet.scalars[Int(segment.base[index])]).utf8)
        }
      }
    case .precompiled(let map): Self.apply(map, to: segment)
    case .sentencePiece(let normalizer): normalizer.apply(to: segment)
    case .canonicalForm(let form): form.apply(to: segment)
    }
  }

  private static func strip(_ segment: Segment, left: Bool, right: Bool) {
    segment.rewrite { piece, rewriter in
      var (start, end) = (piece.lowerBound, piece.upperBound)
      while left, start < end {
        let next = UTF8Bytes.scalar(segment.base, start, end)
        guard next.scalar.isWhiteSpace else { break }
        start += next.length
      }
      while right, start < end {
        let previous = UTF8Bytes.before(segment.base, end)
        guard UTF8Bytes.scalar(segment.base, previous, end).scalar.isWhiteSpace else { break }
        end = previous
      }
      rewriter.keep(start..<end)
    }
  }

  private enum Change {
    case kept
    case removed
    case replaced([UInt8])
  }

  /// Rewrites character by character.
  private static func map(_ segment: Segment, _ change: (Unicode.Scalar) -> Change) {
    segment.rewrite { piece, rewriter in
      var kept = piece.lowerBound
      var index = piece.lowerBound
      while index < piece.upperBound {
        let next = UTF8Bytes.scalar(segment.base, index, piece.upperBound)
        let range = index..<index + next.length
        index = range.upperBound
        switch change(next.scalar) {
        case .kept: continue
        case .removed: rewriter.keep(kept..<range.lowerBound)
        case .replaced(let bytes):
          rewriter.keep(kept..<range.lowerBound)
          rewriter.replace(range, with: bytes)
        }
        kept = index
      }
      rewriter.keep(kept..<piece.upperBound)
    }
  }

  /// The rules with which translation systems clean texts: no control characters, one kind of space.
  private static func nmt(_ scalar: Unicode.Scalar) -> Change {
    switch scalar.value {
    case 0x01...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0x8F, 0x9F: .removed
    case 0x09, 0x0A, 0x0C, 0x0D, 0x1680, 0x200B...0x200F, 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD: .replaced([0x20])
    default: .kept
    }
  }

  /// The longest cluster that is looked up as one, in bytes.
  private static let longestCluster = 5

  /// Replaces short clusters of characters, or else single characters, whose start has a rule.
  private static func apply(_ map: PrecompiledCharacterMap, to segment: Segment) {
    segment.rewrite { piece, rewriter in
      func replace(_ range: Range<Int>) -> Bool {
        guard let match = map.match(segment.base + range.lowerBound, range.count, longest: false) else { return false }
        rewriter.replace(range, with: match.replacement)
        return true
      }
      var start = piece.lowerBound
      let bytes = UnsafeBufferPointer(start: segment.base, count: piece.upperBound)
      for cluster in String(decoding: UnsafeBufferPointer(rebasing: bytes[piece]), as: UTF8.self) {
        let range = start..<start + cluster.utf8.count
        start = range.upperBound
        if range.count <= longestCluster, replace(range) { continue }
        var index = range.lowerBound
        while index < range.upperBound {
          let part = index..<min(range.upperBound, index + UTF8Bytes.length(segment.base[index]))
          if !replace(part) { rewriter.keep(part) }
          index = part.upperBound
        }
      }
    }
  }
}
