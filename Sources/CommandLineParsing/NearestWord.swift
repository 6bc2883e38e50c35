/// The candidate that `word` was most likely meant to be; nil when none is near.
///
/// Near means few edits (insert, delete, replace, swap of neighbours) for the word's length, or that one begins with
/// the other. Dashes and underscores are alike.
public func nearestWord(to word: String, in candidates: [String]) -> String? {
  let typed = folded(word)
  guard (1...64).contains(typed.count) else { return nil }
  var best: (candidate: String, distance: Int)?
  for candidate in candidates {
    let other = folded(candidate)
    var distance = editDistance(typed, other)
    // "learning" is near "learning-rate", though seven edits away.
    if typed.count >= 3, other.count >= 3, other.starts(with: typed) || typed.starts(with: other) {
      distance = min(distance, 2)
    }
    guard distance <= max(1, typed.count / 3) else { continue }
    if distance < best?.distance ?? .max { best = (candidate, distance) }
  }
  return best?.candidate
}

private func folded(_ word: String) -> [UInt8] {
  word.lowercased().utf8.map { $0 == UInt8(ascii: "_") ? UInt8(ascii: "-") : $0 }
}

/// Optimal string alignment: Levenshtein's edits and the swap of two neighbours.
private func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
  var twoBack: [Int] = []
  var previous = Array(0...b.count)
  for i in a.indices {
    var row = [i + 1]
    for j in b.indices {
      var cost = min(row[j] + 1, previous[j + 1] + 1, previous[j] + (a[i] == b[j] ? 0 : 1))
      if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = min(cost, twoBack[j - 1] + 1) }
      row.append(cost)
    }
    (twoBack, previous) = (previous, row)
  }
  return previous[b.count]
}
