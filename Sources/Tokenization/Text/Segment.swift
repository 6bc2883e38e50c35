/// A stretch of text between added tokens on its way to the model: its bytes, where they came from, and its cuts.
///
/// The bytes are the caller's until a step rewrites them; then the segment owns its copy and, where that is asked for,
/// remembers for each byte the range of the original that it stands for.
final class Segment {
  /// The text as it is now.
  private(set) var base: UnsafePointer<UInt8>
  /// How many bytes it has.
  private(set) var count: Int
  /// The pieces, in order; they do not overlap.
  var pieces: [Range<Int>]
  /// Where the first byte lies in the whole text, while nothing is rewritten.
  private let offset: Int
  private let tracksOrigins: Bool
  private var owned: UnsafeMutablePointer<UInt8>?
  private var starts: [Int] = []
  private var ends: [Int] = []

  /// Makes a segment of bytes that outlive it.
  ///
  /// Where origins are not tracked, a rewritten segment does not know them.
  init(_ base: UnsafePointer<UInt8>, _ range: Range<Int>, tracksOrigins: Bool = true) {
    self.tracksOrigins = tracksOrigins
    self.base = base + range.lowerBound
    count = range.count
    offset = range.lowerBound
    pieces = range.isEmpty ? [] : [0..<range.count]
  }

  deinit { owned?.deallocate() }

  /// The range of the whole text that a range of the bytes stands for.
  func origin(of range: Range<Int>) -> Range<Int> {
    if owned == nil || !tracksOrigins { return offset + range.lowerBound..<offset + range.upperBound }
    guard !range.isEmpty else {
      let place = range.lowerBound < count ? starts[range.lowerBound] : (ends.last ?? offset)
      return place..<place
    }
    let start = starts[range.lowerBound]
    return start..<max(start, ends[range.upperBound - 1])
  }

  /// What a rewriting step appends to.
  struct Rewriter {
    fileprivate var bytes: [UInt8] = []
    fileprivate var starts: [Int] = []
    fileprivate var ends: [Int] = []
    fileprivate let segment: Segment

    /// Takes bytes over as they are.
    mutating func keep(_ range: Range<Int>) {
      guard segment.tracksOrigins else {
        bytes.append(contentsOf: UnsafeBufferPointer(start: segment.base + range.lowerBound, count: range.count))
        return
      }
      for index in range {
        let origin = segment.origin(of: index..<index + 1)
        bytes.append(segment.base[index])
        starts.append(origin.lowerBound)
        ends.append(origin.upperBound)
      }
    }

    /// Puts other bytes in the place of a range.
    mutating func replace(_ range: Range<Int>, with new: some Sequence<UInt8>) {
      guard segment.tracksOrigins else { return bytes.append(contentsOf: new) }
      let origin = segment.origin(of: range)
      for byte in new {
        bytes.append(byte)
        starts.append(origin.lowerBound)
        ends.append(origin.upperBound)
      }
    }

    /// How many bytes there are so far.
    var count: Int { bytes.count }
  }

  /// Rewrites each piece; `body` appends what the piece becomes, which is one piece again.
  func rewrite(_ body: (_ piece: Range<Int>, _ rewriter: inout Rewriter) -> Void) {
    var rewriter = Rewriter(segment: self)
    rewriter.bytes.reserveCapacity(count + count / 4 + 8)
    var rewritten: [Range<Int>] = []
    rewritten.reserveCapacity(pieces.count)
    for piece in pieces {
      let start = rewriter.count
      body(piece, &rewriter)
      if rewriter.count > start { rewritten.append(start..<rewriter.count) }
    }
    let copy = UnsafeMutablePointer<UInt8>.allocate(capacity: max(1, rewriter.count))
    copy.initialize(from: rewriter.bytes, count: rewriter.count)
    owned?.deallocate()
    owned = copy
    base = UnsafePointer(copy)
    count = rewriter.count
    (starts, ends) = (rewriter.starts, rewriter.ends)
    pieces = rewritten
  }

  /// A part of this segment as a segment of its own, with the same origins.
  ///
  /// It must not outlive this one.
  func part(_ range: Range<Int>) -> Segment {
    guard owned != nil else {
      return Segment(
        base - offset, offset + range.lowerBound..<offset + range.upperBound, tracksOrigins: tracksOrigins)
    }
    let part = Segment(base, range, tracksOrigins: tracksOrigins)
    let copy = UnsafeMutablePointer<UInt8>.allocate(capacity: max(1, range.count))
    copy.initialize(from: base + range.lowerBound, count: range.count)
    part.owned = copy
    part.base = UnsafePointer(copy)
    if tracksOrigins { (part.starts, part.ends) = (Array(starts[range]), Array(ends[range])) }
    return part
  }
}
