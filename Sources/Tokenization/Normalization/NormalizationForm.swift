/// Unicode's four normal forms (UAX #15).
enum NormalizationForm: String, Sendable {
  case decomposed = "NFD"
  case composed = "NFC"
  case compatiblyDecomposed = "NFKD"
  case compatiblyComposed = "NFKC"

  private var isCompatible: Bool { self == .compatiblyDecomposed || self == .compatiblyComposed }
  private var isComposed: Bool { self == .composed || self == .compatiblyComposed }

  /// Brings the pieces of a segment into this form, one stretch between characters that nothing joins at a time.
  func apply(to segment: Segment) {
    // ASCII is in every form already.
    guard (0..<segment.count).contains(where: { segment.base[$0] >= 0x80 }) else { return }
    let tables = NormalizationTables.shared
    let (isCompatible, isComposed) = (isCompatible, isComposed)
    segment.rewrite { piece, rewriter in
      var scalars: [Unicode.Scalar] = []
      var bytes: [UInt8] = []
      // [kept, start) is in the form; [start, index) is a stretch that is looked at.
      var kept = piece.lowerBound
      var start = piece.lowerBound
      var index = piece.lowerBound
      var isSimple = true
      func endStretch() {
        defer { (start, isSimple) = (index, true) }
        guard !isSimple else { return }
        scalars.removeAll(keepingCapacity: true)
        var place = start
        while place < index {
          let next = UTF8Bytes.scalar(segment.base, place, index)
          tables.decompose(next.scalar, compatible: isCompatible) { scalars.append($0) }
          place += next.length
        }
        Self.sort(&scalars, tables)
        if isComposed { Self.compose(&scalars, tables) }
        bytes.removeAll(keepingCapacity: true)
        for scalar in scalars { bytes.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter) }
        let original = UnsafeBufferPointer(start: segment.base + start, count: index - start)
        guard !bytes.elementsEqual(original) else { return }
        rewriter.keep(kept..<start)
        rewriter.replace(start..<index, with: bytes)
        kept = index
      }
      while index < piece.upperBound {
        let next = UTF8Bytes.scalar(segment.base, index, piece.upperBound)
        if next.length == 1 || tables.isBoundary(next.scalar, compatible: isCompatible, composed: isComposed) {
          endStretch()
        } else {
          isSimple = false
        }
        index += next.length
      }
      endStretch()
      rewriter.keep(kept..<piece.upperBound)
    }
  }

  /// Puts the marks after each starter in the order of their classes, those of one class as they come.
  private static func sort(_ scalars: inout [Unicode.Scalar], _ tables: NormalizationTables) {
    var index = 0
    while index < scalars.count {
      guard tables.combiningClass(scalars[index]) != 0 else {
        index += 1
        continue
      }
      let first = index
      while index < scalars.count, tables.combiningClass(scalars[index]) != 0 { index += 1 }
      guard index - first > 1 else { continue }
      let run = scalars[first..<index].enumerated().sorted { left, right in
        let classes = (tables.combiningClass(left.element), tables.combiningClass(right.element))
        return classes.0 == classes.1 ? left.offset < right.offset : classes.0 < classes.1
      }
      scalars.replaceSubrange(first..<index, with: run.map(\.element))
    }
  }

  /// Joins each starter with the marks that it composes with.
  private static func compose(_ scalars: inout [Unicode.Scalar], _ tables: NormalizationTables) {
    var result: [Unicode.Scalar] = []
    result.reserveCapacity(scalars.count)
    var starter: Int?
    // The class of the last character after the starter that stayed; nil when there is none.
    var lastClass: UInt8?
    for scalar in scalars {
      let ownClass = tables.combiningClass(scalar)
      let isBlocked = lastClass.map { $0 >= ownClass } ?? false
      if let place = starter, !isBlocked, let composite = tables.compose(result[place], scalar) {
        result[place] = composite
        continue
      }
      if ownClass == 0 {
        starter = result.count
        lastClass = nil
      } else {
        lastClass = ownClass
      }
      result.append(scalar)
    }
    scalars = result
  }
}
