/// A hash table from the bytes of tokens to their ids.
///
/// It is filled once and then read by any number of threads.
final class TokenTable: @unchecked Sendable {
  private struct Slot {
    var tag: UInt32
    var id: Int32
    var offset: UInt32
    var length: UInt32
  }

  private let slots: UnsafeMutablePointer<Slot>
  private let mask: Int
  private var bytes: [UInt8] = []
  private var storage: UnsafeMutablePointer<UInt8>?
  private let seed: UInt64
  private var limit: Int

  /// Makes room for `capacity` tokens.
  init(capacity: Int) {
    var size = 16
    while size < capacity * 2 { size *= 2 }
    slots = .allocate(capacity: size)
    slots.initialize(repeating: Slot(tag: 0, id: -1, offset: 0, length: 0), count: size)
    mask = size - 1
    limit = size - 1
    seed = UInt64.random(in: 1...UInt64.max) | 1
  }

  deinit {
    slots.deallocate()
    storage?.deallocate()
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
    let hash = Self.hash(token.baseAddress, token.count, seed)
    var index = Int(truncatingIfNeeded: hash) & mask
    let tag = UInt32(truncatingIfNeeded: hash >> 32)
    while slots[index].id >= 0 {
      let slot = slots[index]
      if slot.tag == tag, Int(slot.length) == token.count,
        bytes[Int(slot.offset)..<Int(slot.offset) + token.count].elementsEqual(token)
      {
        slots[index].id = id
        return
      }
      index = (index + 1) & mask
    }
    guard limit > 0, let offset = UInt32(exactly: bytes.count), let length = UInt32(exactly: token.count) else {
      return
    }
    limit -= 1
    slots[index] = Slot(tag: tag, id: id, offset: offset, length: length)
    bytes.append(contentsOf: token)
  }

  /// Ends the filling; only then `lookup` may be called.
  func seal() {
    let copy = UnsafeMutablePointer<UInt8>.allocate(capacity: max(1, bytes.count))
    copy.initialize(from: bytes, count: bytes.count)
    storage = copy
    bytes = []
  }

  /// The id of the token with these bytes, or -1.
  @inline(__always)
  func lookup(_ token: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
    guard let storage else { return -1 }
    let hash = Self.hash(token, count, seed)
    var index = Int(truncatingIfNeeded: hash) & mask
    let tag = UInt32(truncatingIfNeeded: hash >> 32)
    while true {
      let slot = slots[index]
      if slot.id < 0 { return -1 }
      if slot.tag == tag, Int(slot.length) == count, Self.equal(storage + Int(slot.offset), token, count) {
        return slot.id
      }
      index = (index + 1) & mask
    }
  }

  /// The id of the token with the bytes of this text, or -1.
  func lookup(_ token: String) -> Int32 {
    var token = token
    return token.withUTF8 { bytes in
      guard let base = bytes.baseAddress else { return lookup(UnsafePointer(slotsAsBytes), 0) }
      return lookup(base, bytes.count)
    }
  }

  /// Any valid address, for looking up no bytes.
  private var slotsAsBytes: UnsafeMutablePointer<UInt8> {
    UnsafeMutableRawPointer(slots).assumingMemoryBound(to: UInt8.self)
  }

  @inline(__always)
  private static func equal(_ a: UnsafePointer<UInt8>, _ b: UnsafePointer<UInt8>, _ count: Int) -> Bool {
    var index = 0
    while index + 8 <= count {
      if load8(a + index) != load8(b + index) { return false }
      index += 8
    }
    while index < count {
      if a[index] != b[index] { return false }
      index += 1
    }
    return true
  }

  @inline(__always)
  private static func load8(_ bytes: UnsafePointer<UInt8>) -> UInt64 {
    UnsafeRawPointer(bytes).loadUnaligned(as: UInt64.self)
  }

  @inline(__always)
  private static func hash(_ bytes: UnsafePointer<UInt8>?, _ count: Int, _ seed: UInt64) -> UInt64 {
    var state = seed ^ UInt64(truncatingIfNeeded: count)
    guard let bytes else { return mix(state, seed) }
    var index = 0
    while index + 8 <= count {
      state = mix(state ^ load8(bytes + index), 0x9E37_79B9_7F4A_7C15)
      index += 8
    }
    var tail: UInt64 = 0
    while index < count {
      tail = tail << 8 | UInt64(bytes[index])
      index += 1
    }
    return mix(state ^ tail, seed)
  }

  @inline(__always)
  private static func mix(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let product = a.multipliedFullWidth(by: b)
    return product.high ^ product.low
  }
}
