/// A SentencePiece model (`tokenizer.model`): its pieces and how texts are prepared for them.
struct SentencePieceFile {
  /// What a piece is.
  enum Kind: UInt64 {
    case normal = 1
    case unknown, control, userDefined, unused, byte
  }

  struct Piece {
    var text: String
    var score: Float
    var kind: Kind
  }

  /// How a text is cut into pieces.
  enum Algorithm: UInt64 {
    case unigram = 1
    case bytePairs, word, character
  }

  var pieces: [Piece] = []
  var algorithm = Algorithm.unigram
  var usesByteFallback = false
  /// Whether white space belongs to the word before it instead of the one after it.
  var spaceIsSuffix = false
  /// Rules of normalization as a trie; empty for none.
  var characterMap: [UInt8] = []
  var addsDummyPrefix = true
  var removesExtraSpaces = true
  var escapesSpaces = true
  /// The ids of special tokens; -1 for one that there is not.
  var bosID = 1
  var eosID = 2
  var padID = -1

  /// Whether a file could be a model: its first field is a piece, a message.
  static func isPlausible(_ bytes: some Collection<UInt8>) -> Bool { bytes.first == 0x0A }

  /// Reads the file's bytes; `path` is named in errors.
  init(_ bytes: [UInt8], path: String) throws(TokenizationError) {
    let result = bytes.withUnsafeBytes { bytes -> Result<SentencePieceFile, TokenizationError> in
      Result { () throws(TokenizationError) in try SentencePieceFile(bytes, path) }
    }
    self = try result.get()
  }

  private init(_ bytes: UnsafeRawBufferPointer, _ path: String) throws(TokenizationError) {
    do {
      var model = ProtobufReader(bytes, 0..<bytes.count)
      while let (field, value) = try model.next() {
        guard case .bytes(let range) = value else { continue }
        switch field {
        case 1: pieces.append(try Self.piece(bytes, range, pieces.count, path))
        case 2: try readTrainer(bytes, range, path)
        case 3: try readNormalizer(bytes, range)
        default: break
        }
      }
    } catch let failure as ProtobufReader.Failure {
      throw TokenizationError(
        "\(path): byte \(failure.offset): \(failure.message); the file is no SentencePiece model or it is damaged")
    } catch let error as TokenizationError {
      throw error
    } catch {
      throw TokenizationError("\(path): \(error)")
    }
    try check(path)
  }

  private static func piece(
    _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>, _ index: Int, _ path: String
  ) throws -> Piece {
    var piece = Piece(text: "", score: 0, kind: .normal)
    var reader = ProtobufReader(bytes, range)
    while let (field, value) = try reader.next() {
      switch (field, value) {
      case (1, .bytes(let range)):
        guard let text = String(validating: bytes[range], as: UTF8.self) else {
          throw TokenizationError("\(path): piece \(index) is not valid UTF-8")
        }
        piece.text = text
      case (2, .fixed32(let bits)): piece.score = Float(bitPattern: bits)
      case (3, .varint(let number)):
        guard let kind = Kind(rawValue: number) else {
          throw TokenizationError("\(path): piece \(index) is of the kind \(number), which is not known")
        }
        piece.kind = kind
      default: break
      }
    }
    guard !piece.text.isEmpty else { throw TokenizationError("\(path): piece \(index) has no text") }
    guard !piece.score.isNaN else { throw TokenizationError("\(path): the score of piece \(index) is not a number") }
    return piece
  }

  private mutating func readTrainer(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>, _ path: String) throws {
    var reader = ProtobufReader(bytes, range)
    while let (field, value) = try reader.next() {
      guard case .varint(let number) = value else { continue }
      switch field {
      case 3:
        guard let algorithm = Algorithm(rawValue: number) else {
          throw TokenizationError("\(path): trainer_spec.model_type \(number) is not known")
        }
        self.algorithm = algorithm
      case 24: spaceIsSuffix = number != 0
      case 35: usesByteFallback = number != 0
      case 41: bosID = Int(Int32(truncatingIfNeeded: number))
      case 42: eosID = Int(Int32(truncatingIfNeeded: number))
      case 43: padID = Int(Int32(truncatingIfNeeded: number))
      default: break
      }
    }
  }

  private mutating func readNormalizer(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) throws {
    var reader = ProtobufReader(bytes, range)
    while let (field, value) = try reader.next() {
      switch (field, value) {
      case (2, .bytes(let range)): characterMap = Array(bytes[range])
      case (3, .varint(let number)): addsDummyPrefix = number != 0
      case (4, .varint(let number)): removesExtraSpaces = number != 0
      case (5, .varint(let number)): escapesSpaces = number != 0
      default: break
      }
    }
  }

  private func check(_ path: String) throws(TokenizationError) {
    guard !pieces.isEmpty else {
      throw TokenizationError("\(path): the file has no pieces; it is no SentencePiece model")
    }
    switch algorithm {
    case .unigram, .bytePairs: break
    case .word, .character:
      throw TokenizationError(
        "\(path): the model cuts texts into \(algorithm == .word ? "words" : "characters"); known are BPE and Unigram")
    }
    var isUnknownSeen = false
    var byteFound = [Bool](repeating: false, count: 256)
    for (index, piece) in pieces.enumerated() {
      switch piece.kind {
      case .unknown:
        guard !isUnknownSeen else { throw TokenizationError("\(path): piece \(index) is a second unknown piece") }
        isUnknownSeen = true
      case .byte:
        guard let byte = TokenDecoder.byte(of: piece.text) else {
          throw TokenizationError("\(path): piece \(index), \"\(piece.text)\", is no byte such as <0x0A>")
        }
        byteFound[Int(byte)] = true
      default: break
      }
    }
    guard isUnknownSeen else { throw TokenizationError("\(path): no piece stands for the unknown") }
    if usesByteFallback, let byte = byteFound.firstIndex(of: false) {
      throw TokenizationError("\(path): byte_fallback is on, but no piece stands for the byte \(byte)")
    }
  }
}
