/// What becomes of a match when a text is cut at it (the behaviours of Hugging Face's `Split`).
enum SplitBehavior: String {
  case removed = "Removed"
  case isolated = "Isolated"
  case mergedWithPrevious = "MergedWithPrevious"
  case mergedWithNext = "MergedWithNext"
  case contiguous = "Contiguous"
}

/// Collects the pieces of one text as its matches and gaps come in order.
struct PieceCollector {
  private let behavior: SplitBehavior
  private var pieces: [Range<Int>]
  private let first: Int
  private var previousIsMatch = false

  /// Goes on after `pieces`, which belong to earlier texts.
  init(_ behavior: SplitBehavior, after pieces: consuming [Range<Int>]) {
    self.behavior = behavior
    self.pieces = pieces
    first = self.pieces.count
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

  private mutating func append(_ range: Range<Int>) {
    pieces.append(range)
  }

  private mutating func extendLast(by range: Range<Int>) {
    if pieces.count > first {
      pieces[pieces.count - 1] = pieces[pieces.count - 1].lowerBound..<range.upperBound
    } else {
      pieces.append(range)
    }
  }

  /// All pieces; empty ones are left out.
  consuming func finish() -> [Range<Int>] {
    if pieces[first...].contains(where: \.isEmpty) { pieces.removeAll(where: \.isEmpty) }
    return pieces
  }
}
