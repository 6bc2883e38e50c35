import JSONValues
import ModelFiles

/// Shapes of models, for plans and measurements without their weights.
package enum KnownShapes {
  /// The shape that `name` means without any weights: that of a published model, or what a `config.json` alone says; nil where
  /// `name` is neither.
  package static func shape(_ name: String) throws -> ModelConfiguration? {
    if let known = configuration(name) { return known }
    guard name.hasSuffix(".json") else { return nil }
    return try ModelConfiguration(json: readJSON(name), path: name)
  }

  /// The shape of the published model of that name.
  private static func configuration(_ name: String) -> ModelConfiguration? {
    all.first { $0.name == name }?.configuration
  }

  /// Every name.
  package static var names: [String] { all.map(\.name) }

  private static let all: [(name: String, configuration: ModelConfiguration)] = [
    (
      "phi-4",
      ModelConfiguration(
        vocabularySize: 100_352, hiddenSize: 5120, intermediateSize: 17_920, layerCount: 40, headCount: 40,
        keyValueHeadCount: 10, ropeTheta: 250_000, contextLength: 16_384)
    ),
    (
      "llama-3.1-8b",
      ModelConfiguration(
        vocabularySize: 128_256, hiddenSize: 4096, intermediateSize: 14_336, layerCount: 32, headCount: 32,
        keyValueHeadCount: 8, ropeTheta: 500_000, contextLength: 131_072)
    ),
    (
      "smollm2-135m",
      ModelConfiguration(
        vocabularySize: 49_152, hiddenSize: 576, intermediateSize: 1536, layerCount: 30, headCount: 9,
        keyValueHeadCount: 3, ropeTheta: 100_000, contextLength: 8192, tiesEmbeddings: true)
    ),
  ]
}
