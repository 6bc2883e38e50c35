import CTokenization

/// A hash table from the bytes of tokens to their ids.
///
/// It is filled once and then read by any number of threads.
final class TokenTable: @unchecked Sendable {
  /// The table as C sees it; it lives as long as this object, and may be used once it is sealed.
  private(set) var tokens: sl_tokens
  /// The longest token in bytes.
  private(set) var longest = 0

  private let slots: UnsafeMutablePointer<sl_token>
  private var bytes: UnsafeMutablePointer<UInt8>
  private var used = 0
  private var capacity: Int
  private var room: Int

  /// Makes room for `capacity` tokens.
  init(capacity: Int) {
    var size = 16
    while size < capacity * 2 { size *= 2 }
    slots = .allocate(capacity: size)
    slots.initialize(repeating: sl_token(tag: 0, id: -1, offset: 0, length: 0), count: size)
    room = size - 1
    self.capacity = 64 + capacity * 8
    bytes = .allocate(capacity: self.capacity)
    tokens = sl_tokens(
      slots: UnsafePointer(slots), bytes: UnsafePointer(bytes), mask: size - 1,
      seed: UInt64.random(in: 1...UInt64.max) | 1)
  }

  deinit {
    slots.deallocate()
    bytes.deallocate()
  }

  /// Adds a token; of two with the same bytes the later one counts.
  ///
  /// More tokens than room was made for are left out.
  func insert(_ token: String, id: Int32) {
    var token = token
    token.withUTF8 { insert($0, id: id) }
  }

  /// Adds a token by its bytes.
  func insert(_ token: UnsafeBufferPointer<UInt8>, id: Int32) {
    // Of an empty token no byte is read.
    let word = token.baseAddress ?? UnsafePointer(bytes)
    let place = sl_token_place(&tokens, word, token.count)
    if slots[place].id >= 0 {
      slots[place].id = id
      return
    }
    guard room > 0, let offset = UInt32(exactly: used), let length = UInt32(exactly: token.count) else { return }
    if used + token.count > capacity { grow(to: used + token.count) }
    (bytes + used).initialize(from: word, count: token.count)
    let hash = sl_hash(word, token.count, tokens.seed)
    slots[place] = sl_token(tag: UInt32(truncatingIfNeeded: hash >> 32), id: id, offset: offset, length: length)
    used += token.count
    longest = max(longest, token.count)
    room -= 1
  }

  private func grow(to count: Int) {
    capacity = max(capacity * 2, count)
    let copy = UnsafeMutablePointer<UInt8>.allocate(capacity: capacity)
    copy.initialize(from: bytes, count: used)
    bytes.deallocate()
    bytes = copy
    tokens.bytes = UnsafePointer(copy)
  }

  /// The id of the token with these bytes, or -1.
  @inline(__always)
  func lookup(_ token: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
    withUnsafePointer(to: tokens) { sl_find_token($0, token, count) }
  }

  /// The id of the token with the bytes of this text, or -1.
  func lookup(_ token: String) -> Int32 {
    var token = token
    return token.withUTF8 { lookup($0.baseAddress ?? UnsafePointer(bytes), $0.count) }
  }
}
