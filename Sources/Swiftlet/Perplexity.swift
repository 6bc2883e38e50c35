import Models

#if canImport(Glibc)
  import Glibc
#endif

/// How well a model predicts a text.
public struct Perplexity: Sendable, Equatable {
  /// exp(nll).
  public var perplexity: Double
  /// Mean negative log-likelihood of the predicted tokens, in nats.
  public var nll: Double
  /// The number of predicted tokens.
  public var tokens: Int
}

extension Model {
  /// The perplexity over windows of `window` tokens, side by side, each read on its own: within a window every token
  /// but the first is predicted.
  ///
  /// The rest of the text that fills no window is left out, unless the text is shorter than one.
  /// - Parameter maxTokens: only the text's first tokens; nil: all.
  /// - Parameter onProgress: receives the share done and returns false to stop; what was read so far then counts.
  public func perplexity(
    of text: String, window: Int = 512, maxTokens: Int? = nil, onProgress: ((Double) -> Bool)? = nil
  ) throws -> Perplexity {
    guard window >= 2 else { throw ModelError("a window needs at least 2 tokens: the first predicts the second") }
    var tokens = tokenizer.encode(text, addSpecialTokens: false)
    if let maxTokens { tokens = Array(tokens.prefix(maxTokens)) }
    guard tokens.count >= 2 else { throw ModelError("the text has \(tokens.count) tokens: at least 2 are needed") }
    let size = min(window, tokens.count)
    let windows = tokens.count / size
    let perBatch = max(1, 2048 / size)
    var loss = 0.0
    var predicted = 0
    for first in stride(from: 0, to: windows, by: perBatch) {
      var batch = PackedBatch()
      for index in first..<min(first + perBatch, windows) {
        let ids = Array(tokens[index * size..<(index + 1) * size])
        batch.append(ids, isTrained: [Bool](repeating: true, count: size))
      }
      loss += try language.evaluate(batch)
      predicted += batch.trainedTokenCount
      if let onProgress, !onProgress(Double(first + perBatch) / Double(windows)) { break }
    }
    let mean = loss / Double(predicted)
    return Perplexity(perplexity: exp(mean), nll: mean, tokens: predicted)
  }
}
