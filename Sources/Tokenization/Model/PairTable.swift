import CTokenization

/// A hash table from a pair of numbers to two numbers: a merge's rank and result, or a trie's edge.
///
/// It is filled once and then read by any number of threads.
final class PairTable: @unchecked Sendable {
  /// What `lookup` returns as `first` when the pair is not there.
  static let none = Int32.max

  private(set) var slots: UnsafeMutablePointer<sl_pair>
  private(set) var mask: Int
  private(set) var count = 0

  init(capacity: Int) {
    var size = 16
    while size < capacity * 2 { size *= 2 }
    slots = Self.allocate(size)
    mask = size - 1
  }

  deinit { slots.deallocate() }

  private static func allocate(_ size: Int) -> UnsafeMutablePointer<sl_pair> {
    let slots = UnsafeMutablePointer<sl_pair>.allocate(capacity: size)
    slots.initialize(repeating: sl_pair(key: .max, first: none, second: -1), count: size)
    return slots
  }

  /// Adds a pair or replaces its values.
  ///
  /// The numbers of a pair are not negative.
  func insert(_ left: Int32, _ right: Int32, _ first: Int32, _ second: Int32) {
    if (count + 1) * 2 > mask + 1 { grow() }
    let key = sl_pair_key(left, right)
    let index = place(key)
    if slots[index].key == .max { count += 1 }
    slots[index] = sl_pair(key: key, first: first, second: second)
  }

  /// The slot that has a key, or the empty one where it belongs.
  private func place(_ key: UInt64) -> Int {
    var index = sl_pair_place(key, mask)
    while slots[index].key != .max, slots[index].key != key { index = (index + 1) & mask }
    return index
  }

  private func grow() {
    let old = slots
    let oldSize = mask + 1
    slots = Self.allocate(oldSize * 2)
    mask = oldSize * 2 - 1
    for position in 0..<oldSize where old[position].key != .max { slots[place(old[position].key)] = old[position] }
    old.deallocate()
  }

  /// The two values of a pair; (`none`, -1) when it is not there.
  @inline(__always)
  func lookup(_ left: Int32, _ right: Int32) -> (first: Int32, second: Int32) {
    let slot = sl_find_pair(slots, mask, left, right)
    return (slot.first, slot.second)
  }
}
