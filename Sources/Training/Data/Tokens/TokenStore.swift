import Glibc

/// Tokens with their masks, one 32-bit word each, in memory or in a file: a dataset may be larger than memory.
///
/// Bit 31 of a word says that its token is trained, the others are the id.
final class TokenStore: @unchecked Sendable {
  /// Marks a token that is trained.
  static let trainedBit: UInt32 = 1 << 31

  /// Number of words.
  let count: Int
  private let words: [UInt32]
  private let descriptor: Int32
  private let path: String

  /// Words in memory.
  init(_ words: [UInt32]) {
    self.words = words
    count = words.count
    descriptor = -1
    path = ""
  }

  /// The first `count` words of an open file, which is closed with the store.
  init(descriptor: Int32, count: Int, path: String) {
    words = []
    self.count = count
    self.descriptor = descriptor
    self.path = path
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// Copies words out; only what is asked for is in memory, and damage of the disk is an error.
  func read(_ range: Range<Int>, into output: UnsafeMutableBufferPointer<UInt32>) throws(DatasetError) {
    guard descriptor >= 0 else {
      _ = output.update(fromContentsOf: words[range])
      return
    }
    var bytes = UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(output)[..<(range.count * 4)])
    var offset = off_t(range.lowerBound * 4)
    while !bytes.isEmpty {
      let count = pread(descriptor, bytes.baseAddress, bytes.count, offset)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        let reason = count < 0 ? String(cString: strerror(errno)) : "it became shorter"
        throw DatasetError(path: path, "the tokens on the disk cannot be read: \(reason)")
      }
      bytes = UnsafeMutableRawBufferPointer(rebasing: bytes[count...])
      offset += off_t(count)
    }
  }

  /// Copies words out.
  func read(_ range: Range<Int>) throws(DatasetError) -> [UInt32] {
    if descriptor < 0 { return Array(words[range]) }
    let result = Result { () throws(DatasetError) -> [UInt32] in
      var problem: DatasetError?
      let read = [UInt32](unsafeUninitializedCapacity: range.count) { buffer, count in
        do throws(DatasetError) {
          try self.read(range, into: buffer)
          count = range.count
        } catch {
          problem = error
        }
      }
      if let problem { throw problem }
      return read
    }
    return try result.get()
  }
}

/// Takes the tokens of a dataset as they are made: in memory while they are few, else in a file.
struct TokenStoreWriter {
  /// Words that stay in memory.
  private let memoryLimit: Int
  private var words: [UInt32] = []
  private var descriptor: Int32 = -1
  private var written = 0
  private var path = ""

  /// A writer whose tokens stay in memory up to a limit.
  init(memoryLimit: Int = 8 << 20) { self.memoryLimit = memoryLimit }

  /// Words so far.
  var count: Int { written + words.count }

  /// Appends the tokens of an example.
  mutating func append(_ ids: ArraySlice<Int32>, _ isTrained: ArraySlice<Bool>) throws(DatasetError) {
    for (id, isTrained) in zip(ids, isTrained) {
      words.append(UInt32(bitPattern: id) | (isTrained ? TokenStore.trainedBit : 0))
    }
    if words.count > memoryLimit { try spill() }
  }

  /// All that was appended.
  mutating func finish() throws(DatasetError) -> TokenStore {
    guard descriptor >= 0 else { return TokenStore(words) }
    try spill()
    return TokenStore(descriptor: descriptor, count: written, path: path)
  }

  private mutating func spill() throws(DatasetError) {
    if descriptor < 0 {
      let folder = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
      var template = Array("\(folder)/swiftlet-tokens-XXXXXX".utf8CString)
      descriptor = mkstemp(&template)
      path = "\(folder) (TMPDIR)"
      guard descriptor >= 0 else { throw failure() }
      unlink(&template)
    }
    let problem = words.withUnsafeBytes { bytes -> DatasetError? in
      var done = 0
      while done < bytes.count {
        let count = write(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done)
        if count < 0 {
          if errno == EINTR { continue }
          return failure()
        }
        done += count
      }
      return nil
    }
    if let problem { throw problem }
    written += words.count
    words.removeAll(keepingCapacity: true)
  }

  private func failure() -> DatasetError {
    DatasetError(path: path, "the tokens cannot be kept on the disk: \(String(cString: strerror(errno)))")
  }
}
