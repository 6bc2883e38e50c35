import ModelFiles
import Tensors

extension WeightStorage {
  /// The segment of a stream that a layer's matrices are; nil where they stay on the device.
  func segment(ofLayer layer: Int) -> Int? { streamedLayers.firstIndex(of: layer) }

  /// The module's layer: `model.layers.3.mlp.down_proj` is one of layer 3.
  static func layer(ofModule module: String) -> Int? {
    let parts = module.split(separator: ".")
    guard parts.count > 3, parts[1] == "layers" else { return nil }
    return Int(parts[2])
  }
}

extension ModelConfiguration {
  /// The groups of matrices of all layers, in the order in which they are made.
  func layerShapes(_ storage: WeightStorage, directions: ProductDirections) -> [FrozenShape] {
    (0..<layerCount).flatMap { layer in
      let segment = storage.segment(ofLayer: layer)
      return TrainingPass.Groups.all.map { modules in
        FrozenShape(
          outputs: modules.map { size(of: $0).outputs }, inputs: size(of: modules[0]).inputs,
          storage: modules.map { storage[$0.path(layer: layer)] }, directions: directions, segment: segment)
      }
    }
  }
}
