/// A word of many symbols while its pairs are merged: a linked list and a heap, n · log n steps for n symbols.
struct LongWord {
  private struct Symbol {
    var id: Int32
    /// 0 once it is merged into the symbol before it.
    var length: Int32
    var previous: Int32
    var next: Int32
  }

  /// A merge that may be done, in the order of rank, then place.
  private struct Candidate {
    var order: UInt64
    var result: Int32

    var position: Int { Int(order & 0xFFFF_FFFF) }
  }

  private var symbols: [Symbol] = []
  private var heap: [Candidate] = []

  init(capacity: Int) { symbols.reserveCapacity(capacity) }

  mutating func append(_ id: Int32, _ length: Int) {
    let index = Int32(truncatingIfNeeded: symbols.count)
    symbols.append(Symbol(id: id, length: Int32(truncatingIfNeeded: length), previous: index - 1, next: index + 1))
  }

  mutating func merge(with merges: PairTable) {
    guard symbols.count > 1 else { return }
    symbols[symbols.count - 1].next = -1
    heap.reserveCapacity(symbols.count)
    for index in 0..<symbols.count - 1 { propose(index, merges) }
    while let candidate = pop() {
      let left = candidate.position
      let next = Int(symbols[left].next)
      guard symbols[left].length > 0, next >= 0,
        merges.lookup(symbols[left].id, symbols[next].id).second == candidate.result
      else { continue }
      symbols[left].id = candidate.result
      symbols[left].length += symbols[next].length
      symbols[left].next = symbols[next].next
      symbols[next].length = 0
      if symbols[left].next >= 0 { symbols[Int(symbols[left].next)].previous = Int32(truncatingIfNeeded: left) }
      if symbols[left].previous >= 0 { propose(Int(symbols[left].previous), merges) }
      propose(left, merges)
    }
  }

  /// Calls `body` with the symbols that are left.
  func forEach(_ body: (Int32, Int) -> Void) {
    for symbol in symbols where symbol.length > 0 { body(symbol.id, Int(symbol.length)) }
  }

  private mutating func propose(_ left: Int, _ merges: PairTable) {
    let next = Int(symbols[left].next)
    guard next >= 0 else { return }
    let (rank, result) = merges.lookup(symbols[left].id, symbols[next].id)
    guard rank != PairTable.none else { return }
    push(Candidate(order: UInt64(UInt32(bitPattern: rank)) << 32 | UInt64(left), result: result))
  }

  private mutating func push(_ candidate: Candidate) {
    heap.append(candidate)
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      if heap[parent].order <= candidate.order { break }
      heap[child] = heap[parent]
      child = parent
    }
    heap[child] = candidate
  }

  private mutating func pop() -> Candidate? {
    guard let top = heap.first, let last = heap.popLast() else { return nil }
    guard !heap.isEmpty else { return top }
    var parent = 0
    while true {
      var child = parent * 2 + 1
      guard child < heap.count else { break }
      if child + 1 < heap.count, heap[child + 1].order < heap[child].order { child += 1 }
      if heap[child].order >= last.order { break }
      heap[parent] = heap[child]
      parent = child
    }
    heap[parent] = last
    return top
  }
}
