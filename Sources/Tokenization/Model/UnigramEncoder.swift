/// A unigram language model: of all ways to cut a text into tokens, the one whose scores add up to the most.
final class UnigramEncoder: Sendable {
  struct Options: Sendable {
    /// What stands for a character without a token; -1 leaves it out.
    var unknown: Int32
    /// Whether unknown characters become their bytes' tokens (`<0xE2>`).
    var usesByteFallback = false
    /// Whether sums are kept in single precision, as the SentencePiece library does.
    var isSinglePrecision = false
    /// Whether unknown characters in a row may be a token together, as Hugging Face's `tokenizers` looks them up.
    var looksUpUnknown = true
    /// Tokens that are preferred over all others.
    var preferred: Set<Int32> = []
  }

  /// How much less than the least likely token an unknown character counts.
  private static let unknownPenalty = 10.0

  private let trie: TokenTrie
  private let table: TokenTable
  private let scores: [Double]
  private let unknownScore: Double
  private let highestScore: Double
  private let byteTokens: [Int32]
  private let options: Options

  /// Makes an encoder.
  ///
  /// `tokens` are what a text can be cut into; `scores` are by id, `range` the least and the greatest that count.
  init(
    tokens: some Collection<(text: [UInt8], id: Int32)>, table: TokenTable, scores: [Double],
    range: ClosedRange<Double>,
    byteTokens: [Int32], options: Options
  ) {
    trie = TokenTrie(tokens)
    self.table = table
    self.scores = scores
    unknownScore =
      options.isSinglePrecision
      ? Double(Float(range.lowerBound) - Float(Self.unknownPenalty)) : range.lowerBound - Self.unknownPenalty
    highestScore = range.upperBound
    self.byteTokens = byteTokens
    self.options = options
  }

  /// Where the best way to a place in the text comes from.
  private struct Step {
    var score = 0.0
    var start: Int32 = -1
    var id: Int32 = -1
  }

  /// Appends the tokens of a text.
  func encode(_ text: UnsafePointer<UInt8>, _ count: Int, _ output: inout BytePairEncoder.Output) {
    let path = bestPath(text, count)
    var index = 0
    while index < path.count {
      let (id, start, end) = path[index]
      guard id == options.unknown else {
        output.append(id, length: end - start)
        index += 1
        continue
      }
      // Unknown characters in a row are one token, or each its bytes.
      var last = index
      while last + 1 < path.count, path[last + 1].id == options.unknown { last += 1 }
      encodeUnknown(text + start, path[last].end - start, &output)
      index = last + 1
    }
  }

  private func encodeUnknown(
    _ text: UnsafePointer<UInt8>, _ count: Int, _ output: inout BytePairEncoder.Output
  ) {
    if options.looksUpUnknown {
      let id = table.lookup(text, count)
      if id >= 0 { return output.append(id, length: count) }
    }
    if options.usesByteFallback, (0..<count).allSatisfy({ byteTokens[Int(text[$0])] >= 0 }) {
      for index in 0..<count { output.append(byteTokens[Int(text[index])], length: 1) }
    } else if options.unknown >= 0 || output.tracksLengths {
      output.append(options.unknown, length: count)
    }
  }

  private func bestPath(_ text: UnsafePointer<UInt8>, _ count: Int) -> [(id: Int32, start: Int, end: Int)] {
    var steps = [Step](repeating: Step(), count: count + 1)
    steps.withUnsafeMutableBufferPointer { steps in
      var start = 0
      while start < count {
        let score = steps[start].score
        let length = min(UTF8Bytes.length(text[start]), count - start)
        var hasSingle = false
        var node = TokenTrie.root
        var end = start
        while end < count {
          node = trie.child(of: node, text[end])
          guard node != TokenTrie.none else { break }
          end += 1
          let id = trie.token(at: node)
          guard id >= 0 else { continue }
          offer(&steps[end], score + self.score(of: id, length: end - start), start, id)
          if end - start == length { hasSingle = true }
        }
        if !hasSingle { offer(&steps[start + length], score + unknownScore, start, options.unknown) }
        start += length
      }
    }
    var path: [(id: Int32, start: Int, end: Int)] = []
    var end = count
    while end > 0, steps[end].start >= 0 {
      let step = steps[end]
      path.append((step.id, Int(step.start), end))
      end = Int(step.start)
    }
    path.reverse()
    return path
  }

  @inline(__always)
  private func score(of id: Int32, length: Int) -> Double {
    if !options.preferred.isEmpty, options.preferred.contains(id) {
      // As the SentencePiece library has it: a product in single precision, then a difference in double.
      return Double(Float(length) * Float(highestScore)) - 0.1
    }
    return scores[Int(id)]
  }

  @inline(__always)
  private func offer(_ step: inout Step, _ score: Double, _ start: Int, _ id: Int32) {
    let score = options.isSinglePrecision ? Double(Float(score)) : score
    guard step.start < 0 || score > step.score else { return }
    step.score = score
    step.start = Int32(truncatingIfNeeded: start)
    step.id = id
  }
}
