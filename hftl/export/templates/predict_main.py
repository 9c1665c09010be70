HERE = Path(__file__).resolve().parent
CONFIG = json.loads((HERE / "predict.json").read_text(encoding="utf-8"))


def probabilities(inputs, model=HERE / "model.onnx"):
    onnxruntime.set_default_logger_severity(4)  # what goes wrong is raised as well
    path = (Path(model) if Path(model).is_file() else HERE / model).resolve(strict=True)
    graph = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([graph.run(["probabilities"], row)[0] for row in feeds(inputs, CONFIG.get("preprocessing"))])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, usage=argparse.SUPPRESS)
    parser.add_argument("inputs", nargs="+", help="after -- when one begins with a dash")
    parser.add_argument("--model", default=argparse.SUPPRESS, help="an ONNX file (default: model.onnx beside this)")
    try:
        for row in probabilities(**vars(parser.parse_args())):
            print(f"{CONFIG['labels'][row.argmax()]}\t{row.max():.4f}")  # noqa: T201
    except Exception as error:
        parser.error(" ".join(str(error).split(" : ")[-1].split()))  # without the prefix of onnxruntime
