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
  /// Whether each query and key head has a norm.
  var normalizesHeads: Bool

  init(_ configuration: ModelConfiguration) {
    layerCount = configuration.layerCount
    hidden = configuration.hiddenSize
    intermediate = configuration.intermediateSize
    heads = configuration.headCount
    keyValueHeads = configuration.keyValueHeadCount
    headDimension = configuration.headDimension
    vocabulary = configuration.vocabularySize
    normalizesHeads = configuration.normalizesHeads
  }

  /// The outputs of a module.
  func outputs(of module: TargetModule) -> Int {
    switch module {
    case .query: queryWidth
    case .key, .value: keyValueWidth
    case .output, .down: hidden
    case .gate, .up: intermediate
    }
  }

  var queryWidth: Int { heads * headDimension }
  var keyValueWidth: Int { keyValueHeads * headDimension }
}

/// What makes a model or an adapter unusable, in one line.
public struct ModelError: Error, CustomStringConvertible, Equatable {
  /// One line for the user.
  public let description: String
  /// An error with its line.
  public init(_ description: String) { self.description = description }
}
