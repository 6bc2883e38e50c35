/// Documents laid end to end without padding: what one forward and backward pass sees.
///
/// Positions restart and attention begins anew at every document, so that a document's loss does not depend on its
/// neighbours; but where rotary frequencies follow the length (dynamic and longrope scaling), they follow the longest
/// document of the batch.
public struct PackedBatch: Sendable, Equatable {
  /// Token ids, `[T]`.
  public var tokens: [Int32]
  /// The token that each position must predict, `[T]`, already shifted; -1 where nothing is trained.
  public var targets: [Int32]
  /// Position of each token in its document, `[T]`.
  public var positions: [Int32]
  /// Where each document lies in the arrays above; they touch and cover all of them.
  public var documents: [Range<Int>]
  /// Number of targets that are not -1.
  public var trainedTokenCount: Int

  /// A batch without documents.
  public init() {
    tokens = []
    targets = []
    positions = []
    documents = []
    trainedTokenCount = 0
  }

  /// Adds a document.
  ///
  /// Its token `i` is a target, of position `i - 1`, where `isTrained[i]`; the first has no position that
  /// could predict it.
  public mutating func append(_ ids: ArraySlice<Int32>, isTrained: ArraySlice<Bool>) {
    let start = tokens.count
    guard !ids.isEmpty else { return }
    tokens += ids
    documents.append(start..<tokens.count)
    positions += 0..<Int32(ids.count)
    targets.reserveCapacity(tokens.count)
    ids.withUnsafeBufferPointer { ids in
      isTrained.withUnsafeBufferPointer { isTrained in
        // The last token, and any beyond a mask that is too short, predicts nothing.
        for next in 1..<ids.count + 1 {
          let counts = next < ids.count && next < isTrained.count && isTrained[next]
          targets.append(counts ? ids[next] : -1)
          trainedTokenCount += counts ? 1 : 0
        }
      }
    }
  }

  /// Adds a document.
  public mutating func append(_ ids: some Collection<Int32>, isTrained: some Collection<Bool>) {
    append(Array(ids)[...], isTrained: Array(isTrained)[...])
  }
}
