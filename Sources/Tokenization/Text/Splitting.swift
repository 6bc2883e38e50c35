/// What becomes of a match when a text is cut at it (the behaviours of Hugging Face's `Split`).
enum SplitBehavior: String {
  case removed = "Removed"
  case isolated = "Isolated"
  case mergedWithPrevious = "MergedWithPrevious"
  case mergedWithNext = "MergedWithNext"
  case contiguous = "Contiguous"
}

/// Collects the pieces of texts as their matches and gaps come in order.
struct PieceCollector {
  private let behavior: SplitBehavior
  private var pieces: [Range<Int>] = []
  private var first = 0
  private var previousIsMatch = false
  private var hasEmpty = false

  init(_ behavior: SplitBehavior, capacity: Int = 0) {
    self.behavior = behavior
    pieces.reserveCapacity(capacity)
  }

  @inline(__always)
  mutating func add(_ range: Range<Int>, isMatch: Bool) {
    switch behavior {
    case .isolated: append(range)
    case .removed: if !isMatch { append(range) }
    case .contiguous:
      if isMatch == previousIsMatch { extendLast(by: range) } else { append(range) }
      previousIsMatch = isMatch
    case .mergedWithPrevious:
      if isMatch && !previousIsMatch { extendLast(by: range) } else { append(range) }
      previousIsMatch = isMatch
    case .mergedWithNext:
      // A match waits in `pieces` and takes in what follows, unless that is a match too.
      if previousIsMatch && !isMatch { extendLast(by: range) } else { append(range) }
      previousIsMatch = isMatch
    }
  }

  @inline(__always)
  private mutating func append(_ range: Range<Int>) {
    if range.isEmpty { hasEmpty = true }
    pieces.append(range)
  }

  private mutating func extendLast(by range: Range<Int>) {
    if pieces.count > first {
      pieces[pieces.count - 1] = pieces[pieces.count - 1].lowerBound..<range.upperBound
    } else {
      append(range)
    }
  }

  /// Goes on with the next text: its pieces join none of those so far.
  mutating func beginText() {
    first = pieces.count
    previousIsMatch = false
  }

  /// All pieces; empty ones are left out.
  consuming func finish() -> [Range<Int>] {
    if hasEmpty { pieces.removeAll { $0.isEmpty } }
    return pieces
  }
}
