/// A hash table from a pair of numbers to two numbers: a merge's rank and result, or a trie's edge.
///
/// It is filled once and then read by any number of threads.
final class PairTable: @unchecked Sendable {
  /// What `lookup` returns as `first` when the pair is not there.
  static let none = Int32.max

  private struct Slot {
    var key: UInt64
    var first: Int32
    var second: Int32
  }

  private var slots: UnsafeMutablePointer<Slot>
  private var mask: Int
  private(set) var count = 0

  init(capacity: Int) {
    var size = 16
    while size < capacity * 2 { size *= 2 }
    slots = Self.allocate(size)
    mask = size - 1
  }

  deinit { slots.deallocate() }

  private static func allocate(_ size: Int) -> UnsafeMutablePointer<Slot> {
    let slots = UnsafeMutablePointer<Slot>.allocate(capacity: size)
    slots.initialize(repeating: Slot(key: .max, first: none, second: -1), count: size)
    return slots
  }

  /// Adds a pair or replaces its values.
  ///
  /// The numbers of a pair are not negative.
  func insert(_ left: Int32, _ right: Int32, _ first: Int32, _ second: Int32) {
    if (count + 1) * 2 > mask + 1 { grow() }
    let key = Self.key(left, right)
    var index = place(key)
    while slots[index].key != .max, slots[index].key != key { index = (index + 1) & mask }
    if slots[index].key == .max { count += 1 }
    slots[index] = Slot(key: key, first: first, second: second)
  }

  private func grow() {
    let old = slots
    let oldSize = mask + 1
    slots = Self.allocate(oldSize * 2)
    mask = oldSize * 2 - 1
    for position in 0..<oldSize where old[position].key != .max {
      var index = place(old[position].key)
      while slots[index].key != .max { index = (index + 1) & mask }
      slots[index] = old[position]
    }
    old.deallocate()
  }

  /// The two values of a pair; (`none`, -1) when it is not there.
  @inline(__always)
  func lookup(_ left: Int32, _ right: Int32) -> (first: Int32, second: Int32) {
    let key = Self.key(left, right)
    var index = place(key)
    while true {
      let slot = slots[index]
      if slot.key == key { return (slot.first, slot.second) }
      if slot.key == .max { return (Self.none, -1) }
      index = (index + 1) & mask
    }
  }

  @inline(__always)
  private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }

  @inline(__always)
  private func place(_ key: UInt64) -> Int {
    let product = key &* 0x9E37_79B9_7F4A_7C15
    return Int(truncatingIfNeeded: (product ^ (product >> 32))) & mask
  }
}
