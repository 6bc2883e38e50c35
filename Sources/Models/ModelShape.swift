import ModelFiles
import Tensors

/// The sizes that a forward pass needs.
struct ModelShape: Sendable, Equatable {
  var layerCount: Int
  var hidden: Int
  var intermediate: Int
  var heads: Int
  var keyValueHeads: Int
  var headDimension: Int
  var vocabulary: Int

  init(_ configuration: ModelConfiguration) {
    layerCount = configuration.layerCount
    hidden = configuration.hiddenSize
    intermediate = configuration.intermediateSize
    heads = configuration.headCount
    keyValueHeads = configuration.keyValueHeadCount
    headDimension = configuration.headDimension
    vocabulary = configuration.vocabularySize
  }

  var queryWidth: Int { heads * headDimension }
  var keyValueWidth: Int { keyValueHeads * headDimension }

  /// A module's output and input features.
  func size(of module: TargetModule) -> (outputs: Int, inputs: Int) {
    switch module {
    case .query: (queryWidth, hidden)
    case .key, .value: (keyValueWidth, hidden)
    case .output: (hidden, queryWidth)
    case .gate, .up: (intermediate, hidden)
    case .down: (hidden, intermediate)
    }
  }
}

/// What makes a model or an adapter unusable, in one line.
public struct ModelError: Error, CustomStringConvertible, Equatable {
  /// One line for the user.
  public let description: String
  /// An error with its line.
  public init(_ description: String) { self.description = description }
}
