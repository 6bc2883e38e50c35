/// Documents laid end to end without padding: what one forward and backward pass sees.
///
/// Positions restart and attention begins anew at every document, so that a document's loss does not depend on its
/// neighbours.
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
  public mutating func append(_ ids: some Collection<Int32>, isTrained: some Collection<Bool>) {
    let start = tokens.count
    tokens.append(contentsOf: ids)
    let count = tokens.count - start
    guard count > 0 else { return }
    for (id, trained) in zip(ids, isTrained).dropFirst() {
      targets.append(trained ? id : -1)
      trainedTokenCount += trained ? 1 : 0
    }
    // The last token, and any beyond a mask that is too short, predicts nothing.
    targets.append(contentsOf: repeatElement(-1, count: tokens.count - targets.count))
    positions.append(contentsOf: 0..<Int32(count))
    documents.append(start..<tokens.count)
  }
}
