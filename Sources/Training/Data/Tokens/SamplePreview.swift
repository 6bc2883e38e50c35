import Tokenization

/// An example as text, with what of it is trained: made from the tokens that training sees, so that nothing is hidden.
public struct SamplePreview: Sendable, Equatable {
  /// A stretch of the text, all of it trained or none.
  public struct Run: Sendable, Equatable {
    /// What the tokens stand for.
    public var text: String
    /// Whether the loss counts them.
    public var isTrained: Bool
  }

  /// The stretches in order.
  public var runs: [Run]
  /// The token ids.
  public var ids: [Int32]
  /// Which of them are trained.
  public var isTrained: [Bool]

  /// Number of tokens that the loss counts: all but the first, which nothing predicts.
  public var trainedCount: Int { isTrained.dropFirst().count { $0 } }
}

extension TokenizedDataset {
  /// The documents of an example as text: one, or the better answer and the worse one.
  public func preview(ofExample index: Int, tokenizer: Tokenizer) throws -> [SamplePreview] {
    let batch = try batch(of: [index])
    let (ids, isTrained) = try tokens(ofExample: index)
    return batch.documents.map { range in
      var runs: [SamplePreview.Run] = []
      var start = range.lowerBound
      while start < range.upperBound {
        let end = isTrained[start..<range.upperBound].firstIndex { $0 != isTrained[start] } ?? range.upperBound
        runs.append(.init(text: tokenizer.decode(ids[start..<end]), isTrained: isTrained[start]))
        start = end
      }
      return SamplePreview(runs: runs, ids: Array(ids[range]), isTrained: Array(isTrained[range]))
    }
  }
}
