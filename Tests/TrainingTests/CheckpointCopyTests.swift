import ModelFiles
import Models
import Testing

@testable import Training

/// What a plan counts for the copy that a checkpoint is written from is what a checkpoint holds.
@Suite final class CheckpointCopyTests: TinyRuns {
  @Test(arguments: [false, true]) func copiesTakeWhatIsPlanned(useDoRA: Bool) throws {
    let configuration = configuration {
      $0.maxSteps = 2
      $0.saveSteps = 2
      $0.useDoRA = useDoRA
    }
    _ = try trainer(configuration, "run").run()
    let checkpoint = "\(folder.path)/run/checkpoints/step-000002"
    let written = try ["adapter_model.safetensors", "optimizer.safetensors"].reduce(0) { sum, name in
      try SafetensorsFile(path: "\(checkpoint)/\(name)").tensors.reduce(sum) { $0 + ($1.bytes?.count ?? 0) }
    }
    let extent = TrainingExtent(
      try Checkpoint.open(path: modelFolder.path).configuration, storage: .operands,
      adapter: LoRAConfiguration(configuration), quantizesMoments: false, tokens: 64)
    // Where magnitudes learn, what their gradients need is counted as parameters.
    #expect(written > 0 && written <= extent.checkpointByteCount)
    #expect(useDoRA || written == extent.checkpointByteCount)
  }
}
