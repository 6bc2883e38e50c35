/// A tree of the bytes of tokens: finds all tokens that start at one place of a text.
final class TokenTrie: @unchecked Sendable {
  /// The node where every search starts.
  static let root: Int32 = 0
  /// No node.
  static let none: Int32 = -1

  /// The edges: (node, byte) to (next node, unused).
  private let edges: PairTable
  /// The nodes after each first byte, which nearly every search asks for.
  private var first = [Int32](repeating: none, count: 256)
  /// Per node, the token that ends there, or -1.
  private var ends: [Int32] = [-1]

  /// Makes a tree of tokens of at least one byte; of two with the same bytes the later one counts.
  init(_ tokens: some Collection<(text: [UInt8], id: Int32)>) {
    edges = PairTable(capacity: tokens.count * 2)
    for (text, id) in tokens {
      var node = Self.root
      for (depth, byte) in text.enumerated() {
        var next = child(of: node, byte)
        if next == Self.none {
          next = Int32(truncatingIfNeeded: ends.count)
          ends.append(-1)
          if depth == 0 { first[Int(byte)] = next } else { edges.insert(node, Int32(byte), next, 0) }
        }
        node = next
      }
      if node != Self.root { ends[Int(node)] = id }
    }
  }

  /// The node after one more byte; `none` when no token goes on so.
  @inline(__always)
  func child(of node: Int32, _ byte: UInt8) -> Int32 {
    if node == Self.root { return first[Int(byte)] }
    let next = edges.lookup(node, Int32(byte)).first
    return next == PairTable.none ? Self.none : next
  }

  /// The token that ends at a node, or -1.
  @inline(__always)
  func token(at node: Int32) -> Int32 { ends[Int(node)] }
}
