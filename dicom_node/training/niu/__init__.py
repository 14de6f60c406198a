"""[Niu2023]: T12 to L2 found on a coronal projection, their cancellous bone segmented, its density estimated."""
