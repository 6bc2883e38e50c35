/// What turns words into tokens: byte pairs or a unigram model, and symbols that are tokens wherever they stand.
struct TokenModel: Sendable {
  enum Kind: Sendable {
    case bytePairs(BytePairEncoder)
    case unigram(UnigramEncoder)
  }

  let kind: Kind
  /// Finds the symbols that no merge may touch (SentencePiece's user-defined ones); `nil` when there are none.
  var symbols: AddedTokenFinder?
  /// Tokens that are only a step on the way to others, and what they are made of, with the bytes of each part.
  var expansions: [Int32: [(id: Int32, length: Int)]] = [:]

  init(_ kind: Kind) { self.kind = kind }

  /// Appends the tokens of a word of at least one byte.
  @inline(__always)
  func encode(
    _ word: UnsafePointer<UInt8>, _ count: Int, _ scratch: BytePairEncoder.Scratch,
    _ output: inout BytePairEncoder.Output
  ) {
    switch kind {
    case .bytePairs(let encoder) where symbols == nil && expansions.isEmpty:
      encoder.encode(word, count, scratch, &output)
    case .bytePairs(let encoder): encodeWithSymbols(encoder, word, count, scratch, &output)
    case .unigram(let encoder): encoder.encode(word, count, &output)
    }
  }

  /// Appends the tokens of the words that a scanner finds in a range; `readable` bytes may be read.
  @inline(__always)
  func encode(
    words: WordScanner, of text: UnsafePointer<UInt8>, _ range: Range<Int>, readable: Int,
    _ scratch: BytePairEncoder.Scratch, _ output: inout BytePairEncoder.Output
  ) {
    if case .bytePairs(let encoder) = kind, symbols == nil, expansions.isEmpty {
      return encoder.encode(words: words, of: text, range, readable: readable, scratch, &output)
    }
    words.forEachBatch(of: text, range, readable: readable) { start, ends in
      var start = start
      for end in ends {
        encode(text + start, end - start, scratch, &output)
        start = end
      }
    }
  }

  private func encodeWithSymbols(
    _ encoder: BytePairEncoder, _ word: UnsafePointer<UInt8>, _ count: Int, _ scratch: BytePairEncoder.Scratch,
    _ output: inout BytePairEncoder.Output
  ) {
    var raw = BytePairEncoder.Output(tracksLengths: true)
    func take() {
      for (id, length) in zip(raw.ids, raw.lengths) {
        if let parts = expansions[id] {
          for part in parts { output.append(part.id, length: part.length) }
        } else if id >= 0 || output.tracksLengths {
          output.append(id, length: Int(length))
        }
      }
      raw.ids.removeAll(keepingCapacity: true)
      raw.lengths.removeAll(keepingCapacity: true)
    }
    guard let symbols else {
      encoder.encode(word, count, scratch, &raw)
      return take()
    }
    for part in symbols.split(word, count) {
      if let id = part.token {
        output.append(id, length: part.range.count)
      } else {
        encoder.encode(word + part.range.lowerBound, part.range.count, scratch, &raw)
        take()
      }
    }
  }
}
