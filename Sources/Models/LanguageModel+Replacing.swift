import ModelFiles
import Tensors

extension LanguageModel {
  /// The matrix of a projection, as the device has it.
  package func matrix(of module: TargetModule, layer: Int) -> any FrozenMatrix { blocks[layer][module].matrix }

  /// Gives the projections of a layer other weights for forward passes: those that `source` has, and the checkpoint's own
  /// to the others.
  package func replaceMatrices(layer: Int, _ source: (TargetModule) throws -> MatrixSource?) throws {
    guard let checkpoint else { throw ModelError("a model of random weights has none to replace") }
    let loader = WeightLoader(checkpoint: checkpoint, device: device, directions: .forward, storage: storage)
    for modules in [[TargetModule.query, .key, .value], [.output], [.gate, .up], [.down]] {
      let others = try modules.map(source)
      let sources = try zip(modules, others).map { module, other in
        if let other { return other }
        let size = configuration.size(of: module)
        return try loader.stored(module.path(layer: layer) + ".weight", rows: size.outputs, columns: size.inputs)
          .source(
            storage: storage[module.path(layer: layer)])
      }
      let matrices = try device.makeFrozenMatrices(sources, directions: .forward)
      for (module, matrix) in zip(modules, matrices) {
        blocks[layer][module] = Projection(matrix, lowRank: blocks[layer][module].lowRank)
      }
    }
    inference = nil
  }
}
