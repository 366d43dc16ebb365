"""Sweep grid -> manifest -> cells, on one machine or as an array job."""
